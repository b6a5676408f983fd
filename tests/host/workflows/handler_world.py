"""A host that keeps workflows: real store, registry, limits and engines; scripted modules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from innkeeper.modules.attributes import Binding, DeclaredAttribute
from innkeeper.workflows.deployment import Deployment
from innkeeper.workflows.handler import Handler
from innkeeper_sdk.manifest import Attribute
from innkeeper_sdk.module import WorkflowSpec
from tests.host.engine.engine_world import Handler as Guest
from tests.host.engine.engine_world import ScriptedModule, World, open_world, subscription

OWNER = "22" * 20

ATTRIBUTES: Mapping[str, DeclaredAttribute] = {
    "bound": DeclaredAttribute("test", Attribute(schema={"type": "boolean"}, default=False, module="vault")),
    "note": DeclaredAttribute("test", Attribute(schema={"type": "string"}, default="")),
    "old": DeclaredAttribute("test", Attribute(refused="it is read at run time now")),
}


def deployment(name: str = "my-workflow", **changes: Any) -> Deployment:
    """Return a deployment."""
    return evolve(Deployment(binary=b"binary", kind="scripted", name=name, owner=OWNER), **changes)


@define(eq=False)
class ScriptedModules:
    """Modules by the binary that they were made of."""

    guests: dict[bytes, Guest] = field(factory=dict)
    triggers: dict[bytes, list[str]] = field(factory=dict)
    refuse: dict[bytes, Exception] = field(factory=dict)
    on_start: dict[bytes, Exception] = field(factory=dict)
    made: list[tuple[WorkflowSpec, bytes, Binding | None]] = field(factory=list)
    modules: list[ScriptedModule] = field(factory=list)

    async def create(self, spec: WorkflowSpec, binary: bytes, binding: Binding | None) -> ScriptedModule:
        """Return a module."""
        self.made.append((spec, binary, binding))
        if binary in self.refuse:
            raise self.refuse[binary]
        module = ScriptedModule(handler=self.guests.get(binary), on_start=self.on_start.get(binary))
        if binary in self.triggers:
            module.subscriptions = [subscription(capability) for capability in self.triggers[binary]]
        module.main = "scripted" if binding is None else binding.module
        self.modules.append(module)
        return module

    @property
    def open(self) -> list[ScriptedModule]:
        """Return the modules that were made and not closed."""
        return [module for module in self.modules if "closed" not in module.history]


@define(eq=False)
class Hosted:
    """A handler and what is around it."""

    handler: Handler
    modules: ScriptedModules
    world: World

    def again(self, **changes: Any) -> Handler:
        """Return the handler of the next host, on the same database and with the same modules."""
        options: dict[str, Any] = {"attributes": ATTRIBUTES, "kinds": {"scripted"}, "drain_seconds": 5.0} | changes
        return Handler(self.world.environment, self.modules, **options)


@asynccontextmanager
async def open_handler(
    directory: Path, *, limits: Mapping[str, Any] | None = None, drain_seconds: float = 5.0
) -> AsyncIterator[Hosted]:
    """Make a host, and close it."""
    async with open_world(directory, limits=limits) as world:
        modules = ScriptedModules()
        hosted = Hosted(Handler(world.environment, modules, attributes={}, kinds=()), modules, world)
        hosted.handler = hosted.again(drain_seconds=drain_seconds)
        try:
            yield hosted
        finally:
            await hosted.handler.close()


__all__ = ["ATTRIBUTES", "OWNER", "Hosted", "ScriptedModules", "deployment", "open_handler"]

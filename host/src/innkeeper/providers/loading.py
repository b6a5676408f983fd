"""Importing a provider's host part and taking what its hooks return.

Rules of this module:

1. Everything here runs the provider's code and so in a thread behind its wall (see ``containment``), never on the event
   loop.
2. The module that is imported lies in the package whose manifest was read; anything else of that name is refused.
3. What a hook returns is exactly what the manifest declares for this host: nothing more, nothing less, nothing twice.
4. Each provider has a plugin manager of its own, so that a faulty hook is nobody else's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pluggy
from attrs import frozen

from innkeeper.capabilities.declarations import read_info
from innkeeper.providers.checks import runs_in_host
from innkeeper.providers.discovery import Discovered
from innkeeper_sdk.capability import Capability, CapabilityInfo
from innkeeper_sdk.errors import ProviderFailedError
from innkeeper_sdk.hooks import HookSpecs, ProviderContext, Service
from innkeeper_sdk.manifest import Manifest
from innkeeper_sdk.module import ModuleType

__all__ = ["Parts", "call_hooks", "import_plugin"]

_T = TypeVar("_T")

_PROJECT: Final = "innkeeper"


@frozen
class Parts:
    """What a provider's hooks returned.

    Attributes:
        modules: Module types, by the names that the manifest gives them.
        capabilities: Capabilities, with what they say of themselves.
        services: Services.
    """

    modules: dict[str, ModuleType]
    capabilities: list[tuple[Capability, CapabilityInfo]]
    services: list[Service]


def import_plugin(discovered: Discovered) -> object:
    """Import what a provider's entry point names.

    Args:
        discovered: The provider, from a scan.

    Raises:
        ProviderFailedError: It is not where its manifest is, or there is no such object.
    """
    module = import_module(discovered.module)
    file = getattr(module, "__file__", None)
    package_dir = discovered.package_dir
    if file is None or package_dir is None or not Path(file).resolve().is_relative_to(package_dir.resolve()):
        raise ProviderFailedError(
            f"the module {discovered.module} is not in the package that its manifest is in",
            expected=str(package_dir),
            actual=file or "no file",
            hint="another package of that name is in the way",
        )
    if not discovered.attribute:
        return module
    try:
        plugin = attrgetter(discovered.attribute)(module)
    except AttributeError as error:
        raise ProviderFailedError(
            f"its entry point names {discovered.value}, and the module has no such object"
        ) from error
    if plugin is None:
        raise ProviderFailedError(f"its entry point names {discovered.value}, which is None")
    found: object = plugin
    return found


def call_hooks(plugin: object, context: ProviderContext, manifest: Manifest, mode: str | None) -> Parts:
    """Call a provider's hooks and check what they return.

    Args:
        plugin: What its entry point names.
        context: What its hooks are given.
        manifest: Its manifest.
        mode: Where its capabilities run, where there is a choice.

    Raises:
        ProviderFailedError: A hook is none, or what it returned is not what the manifest declares.
    """
    manager = pluggy.PluginManager(_PROJECT)
    manager.add_hookspecs(HookSpecs)
    try:
        manager.register(plugin, name=context.provider)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ProviderFailedError(f"they are not valid: {error}") from error
    caller = _Caller(context)
    modules = caller.call(manager.hook.innkeeper_modules, "innkeeper_modules", ModuleType)  # type: ignore[type-abstract]  # for isinstance
    capabilities = caller.call(manager.hook.innkeeper_capabilities, "innkeeper_capabilities", Capability)  # type: ignore[type-abstract]  # as above
    services = caller.services(caller.call(manager.hook.innkeeper_services, "innkeeper_services", object), manifest)
    infos = [(capability, read_info(context.provider, capability)) for capability in capabilities]
    hosted = [item.id for item in manifest.capabilities if runs_in_host(item, mode)]
    named = [(caller.name(module), module) for module in modules]
    caller.compare("module type", [module.name for module in manifest.modules], [name for name, _ in named])
    caller.compare("capability", hosted, [info.id for _, info in infos])
    return Parts(dict(named), infos, services)


class _Caller:
    """Calls the hooks of one provider."""

    def __init__(self, context: ProviderContext) -> None:
        self._context = context

    def call(self, hook: Callable[..., list[object]], name: str, cls: type[_T]) -> list[_T]:
        """Return what a hook returned, one list of the things wanted."""
        found: list[_T] = []
        for result in hook(context=self._context):
            if inspect.iscoroutine(result):
                result.close()
                raise _failed(f"{name} is a coroutine function", "a plain function")
            if not isinstance(result, list | tuple):
                raise _failed(f"{name} returned no list", "a list", type(result).__name__)
            for item in result:
                if not isinstance(item, cls):
                    raise _failed(f"{name} returned a wrong thing", cls.__name__, type(item).__name__)
                found.append(item)
        return found

    def name(self, module: ModuleType) -> str:
        """Return what a module type calls itself."""
        name: Any = module.name
        if not isinstance(name, str):
            raise _failed("the name of a module type is no text", "text", type(name).__name__)
        return name

    def compare(self, what: str, declared: list[str], returned: list[str]) -> None:
        """Check that everything declared was returned once, and nothing else."""
        twice = sorted({name for name in returned if returned.count(name) > 1})
        more = sorted(set(returned) - set(declared))
        less = sorted(set(declared) - set(returned))
        for names, fault in (
            (more, "its hook returned the {}, which its manifest does not declare for this host"),
            (twice, "its hook returned the {} more than once"),
            (less, "its manifest declares the {}, which its hook did not return"),
        ):
            if names:
                raise _failed(fault.format(f"{what} {', '.join(names)}"))

    def services(self, returned: list[object], manifest: Manifest) -> list[Service]:
        """Return services, having checked that they are ones and are declared."""
        if len(returned) != len(manifest.services):
            declared = f"{len(manifest.services)} as its manifest declares"
            raise _failed("the number of services is wrong", declared, str(len(returned)))
        for service in returned:
            for act in ("start", "close"):
                if not inspect.iscoroutinefunction(getattr(service, act, None)):
                    name = type(service).__name__
                    raise _failed(f"a service has no coroutine function {act}", "start and close", name)
        return cast(list[Service], returned)


def _failed(message: str, expected: str | None = None, actual: str | None = None) -> ProviderFailedError:
    return ProviderFailedError(message, expected=expected, actual=actual)

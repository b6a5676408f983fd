"""The one way in which an engine comes to be, whatever runs the workflow.

Rules of this module:

1. Check the id, take a place, load the module, start the engine, register it: in this order, for every kind of
   workflow. What differs between module types is inside the module.
2. Every failure closes what was opened, that of starting included, and gives the place back.
3. An engine that finds another one under its id is closed, and both sources are told to the log.
4. The log says which way a workflow went, and why.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Protocol

from attrs import evolve, frozen

from innkeeper.engine.engine import Engine
from innkeeper.engine.environment import Environment
from innkeeper.engine.ports import ChosenModule, SecretSource
from innkeeper.modules.attributes import Attributes, Binding
from innkeeper.store.specs import Artifacts, SpecHeader
from innkeeper.workflows.engines import Engines
from innkeeper.workflows.identity import workflow_id
from innkeeper_sdk.errors import ConflictError, VerificationError
from innkeeper_sdk.module import WorkflowSpec

__all__ = ["Creation", "ModuleFactory", "Plan"]


class ModuleFactory(Protocol):
    """What chooses and loads the module of a workflow."""

    async def create(self, spec: WorkflowSpec, binary: bytes, binding: Binding | None) -> ChosenModule:
        """Return the module of a workflow, loaded and not started.

        Raises:
            UnavailableError: It cannot be had yet: the workflow is deferred.
            InnkeeperError: There is none, with the reason.
        """


@frozen
class Plan:
    """A workflow whose engine is to be made.

    Attributes:
        header: The workflow.
        artifacts: Its binary and configuration.
        attributes: Its attributes.
        binding: The module type that they bind it to, or None.
        simulate: Whether its events start nothing.
        secrets: Where its secrets come from; None is where every workflow's come from.
    """

    header: SpecHeader
    artifacts: Artifacts
    attributes: Attributes
    binding: Binding | None
    simulate: bool = False
    secrets: SecretSource | None = None


class Creation:
    """Make engines.

    Args:
        environment: The host around them.
        modules: What chooses and loads their modules.
        engines: Where they are registered.
        logger: Where it is told.
    """

    def __init__(
        self, environment: Environment, modules: ModuleFactory, engines: Engines, *, logger: logging.Logger
    ) -> None:
        self._environment = environment
        self._modules = modules
        self._engines = engines
        self._logger = logger

    async def create(self, plan: Plan) -> Engine:
        """Return the engine of a workflow, running and registered.

        Raises:
            VerificationError: The workflow's id is not that of its content.
            LimitExceededError: There is no place for it.
            ConflictError: Another engine runs under its id.
            UnavailableError: Something that it needs is not ready.
            InnkeeperError: It cannot run.
        """
        header = plan.header
        _verify(header, plan.artifacts)
        spec = WorkflowSpec(
            workflow_id=header.workflow_id,
            owner=header.owner,
            name=header.name,
            tag=header.tag,
            kind=header.kind,
            binary_url=header.binary_url,
            attributes=dict(plan.attributes.values),
        )
        environment = self._environment
        if plan.secrets is not None:
            environment = evolve(environment, secrets=plan.secrets)
        async with AsyncExitStack() as undo:
            self._engines.reserve(header.owner)
            undo.callback(self._engines.release, header.owner)
            module = await self._modules.create(spec, plan.artifacts.binary, plan.binding)
            undo.push_async_callback(module.close)
            engine = Engine(spec, plan.artifacts.config, module, environment, simulate=plan.simulate)
            # From here the engine closes the module.
            undo.pop_all()
            undo.callback(self._engines.release, header.owner)
            undo.push_async_callback(engine.close)
            await engine.start()
            self._register(plan, engine)
            undo.pop_all()
        self._tell(plan, engine, module)
        return engine

    def _register(self, plan: Plan, engine: Engine) -> None:
        header = plan.header
        existing = self._engines.get(header.workflow_id)
        if existing is None:
            self._engines.add(engine, source=header.source)
            return
        self._logger.warning(
            "WorkflowID collision detected: workflow already exists from different source",
            extra={
                "workflow_id": header.workflow_id,
                "attempted_source": header.source,
                "existing_source": existing.source,
                "hint": "the same content is listed twice; remove it from one of the sources",
            },
        )
        raise ConflictError(
            f"invariant violation: workflow {header.workflow_id} runs already, listed by {existing.source}",
            expected="one engine for a workflow",
            actual=f"a second one, listed by {header.source}",
            hint="remove the workflow from one of its sources",
        )

    def _tell(self, plan: Plan, engine: Engine, module: ChosenModule) -> None:
        self._logger.info(
            "a workflow runs",
            extra={
                "workflow_id": plan.header.workflow_id,
                "owner": plan.header.owner,
                "workflow": plan.header.name,
                "kind": plan.header.kind,
                "module_type": module.main,
                "why": module.why,
                "triggers": [
                    f"{subscription.id} on {module.module_of(index)}"
                    for index, subscription in enumerate(engine.subscriptions.subscriptions)
                ],
                "simulated": plan.simulate,
            },
        )


def _verify(header: SpecHeader, artifacts: Artifacts) -> None:
    found = workflow_id(owner=header.owner, name=header.name, binary=artifacts.binary, config=artifacts.config)
    if found != header.workflow_id:
        raise VerificationError(
            f"workflowID mismatch: {found} != {header.workflow_id}: the stored content is not what was deployed",
            hint="deploy the workflow again",
        )

"""Deploying: putting a workflow in the place of the owner's workflow of that name.

Rules of this module:

1. The old one is stopped, and its row goes in the transaction that stores the new one. If it cannot stop in time,
   nothing is changed, and it goes on.
2. What asks for what already is changes nothing.
3. An id is no proof of content: the same id under another name, owner or source is refused, and told.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from attrs import evolve

from innkeeper.engine.clock import at
from innkeeper.engine.engine import EngineState
from innkeeper.engine.environment import Environment
from innkeeper.modules.attributes import DeclaredAttribute
from innkeeper.store.audit import AuditEntry
from innkeeper.store.specs import Artifacts, SpecHeader, SpecStatus
from innkeeper.workflows.deployment import LOCAL, Accepted, artifact_locator
from innkeeper.workflows.entries import Entry
from innkeeper.workflows.lifecycle import Lifecycle
from innkeeper.workflows.plain import check_plain, same_attributes
from innkeeper_sdk.errors import ConflictError

__all__ = ["Deploying"]


class Deploying:
    """Deploy workflows.

    The caller holds the workflow's lock.

    Args:
        environment: The host around the engines.
        lifecycle: What starts and stops workflows.
        attributes: The attributes that installed providers declare.
        drain_seconds: How long to wait for executions of the old one that run.
        logger: Where it is told.
    """

    def __init__(
        self,
        environment: Environment,
        lifecycle: Lifecycle,
        *,
        attributes: Mapping[str, DeclaredAttribute],
        drain_seconds: float,
        logger: logging.Logger,
    ) -> None:
        self._environment = environment
        self._specs = environment.stores.specs
        self._lifecycle = lifecycle
        self._attributes = attributes
        self._drain_seconds = drain_seconds
        self._logger = logger

    async def deploy(self, accepted: Accepted, *, paused: bool, allow_plain: bool) -> Entry:
        """Store a workflow, and start it.

        Args:
            accepted: The workflow.
            paused: Store it without starting it.
            allow_plain: Permit that a bound workflow becomes unbound; audited.

        Returns:
            What is known of it then.

        Raises:
            LimitExceededError: There is no place for it.
            PlainRefusedError: It would not be bound any more.
            DrainInProgressError: The old one still runs executions; nothing was changed.
            ConflictError: Its id is that of another workflow.
        """
        deployment = accepted.deployment
        before = await self._specs.named(accepted.owner, deployment.name)
        self._check_collision(accepted, await self._lifecycle.known(accepted.workflow_id))
        audit = check_plain(
            before, accepted, self._attributes, allow_plain=allow_plain, now=at(self._environment.clock)
        )
        if not paused:
            await self.check_places(accepted.owner, before)
        if before is not None and self._stands(before, accepted, paused=paused):
            return self._lifecycle.entry(before)
        header = self.header(accepted)
        if paused:
            header = evolve(header, status=SpecStatus.PAUSED)
        replaces = before.workflow_id if before and before.workflow_id != header.workflow_id else None
        if before is not None:
            reason = None if replaces is None else f"the workflow was replaced by {header.workflow_id}"
            await self._lifecycle.stop(before.workflow_id, seconds=self._drain_seconds, reason=reason)
        artifacts = Artifacts(binary=deployment.binary, config=deployment.config)
        await self._specs.put(header, artifacts, replaces=replaces, audit=audit)
        self._tell(audit)
        if replaces is not None:
            self._lifecycle.entries.pop(replaces, None)
        entry = self._lifecycle.entry(header)
        entry.begin_anew()
        await self._lifecycle.converge(header.workflow_id)
        return entry

    def header(self, accepted: Accepted, *, source: str = LOCAL) -> SpecHeader:
        """Return the row of a workflow that is deployed now and active.

        Args:
            accepted: The workflow.
            source: The source that lists it.
        """
        deployment, now = accepted.deployment, at(self._environment.clock)
        return SpecHeader(
            workflow_id=accepted.workflow_id,
            owner=accepted.owner,
            name=deployment.name,
            tag=deployment.tag,
            kind=deployment.kind,
            status=SpecStatus.ACTIVE,
            attributes=deployment.attributes,
            binary_url=artifact_locator(deployment.binary),
            source=source,
            created_at=now,
            updated_at=now,
        )

    async def check_places(self, owner: str, counted: SpecHeader | None) -> None:
        """Check that one more workflow may be active.

        Args:
            owner: Whose.
            counted: A workflow whose place it takes, if there is one.

        Raises:
            LimitExceededError: There are as many as there may be.
        """
        # A workflow that is active holds its place also while it is deferred or failed.
        held = [
            header
            for header in await self._specs.headers()
            if header.status is SpecStatus.ACTIVE and (counted is None or header.workflow_id != counted.workflow_id)
        ]
        limits = self._environment.limits
        limits.check("WorkflowLimit", len(held) + 1)
        limits.check("PerOwner.WorkflowLimit", sum(header.owner == owner for header in held) + 1, owner=owner)

    def _check_collision(self, accepted: Accepted, existing: SpecHeader | None) -> None:
        mine = (accepted.owner, accepted.deployment.name, LOCAL)
        if existing is None or (existing.owner, existing.name, existing.source) == mine:
            return
        self._logger.warning(
            "WorkflowID collision detected: workflow already exists from different source",
            extra={
                "workflow_id": accepted.workflow_id,
                "attempted_source": LOCAL,
                "existing_source": existing.source,
                "existing_owner": existing.owner,
                "existing_workflow": existing.name,
                "hint": "ids do not separate name, binary and config, so other parts can have the same id",
            },
        )
        raise ConflictError(
            f"the id {accepted.workflow_id} is already that of another workflow",
            actual=f"{existing.name} of owner {existing.owner} from {existing.source}",
            hint="give the workflow another name",
        )

    def _stands(self, before: SpecHeader, accepted: Accepted, *, paused: bool) -> bool:
        """Tell whether a deployment asks for what already is."""
        if before.workflow_id != accepted.workflow_id or before.tag != accepted.deployment.tag:
            return False
        if not same_attributes(before, accepted, self._attributes):
            return False
        engine = self._lifecycle.engine(before.workflow_id)
        if paused:
            return before.status is SpecStatus.PAUSED and engine is None
        runs = engine is not None and engine.state is EngineState.RUNNING
        return before.status is SpecStatus.ACTIVE and runs

    def _tell(self, audit: Sequence[AuditEntry]) -> None:
        for entry in audit:
            self._logger.warning(
                "audit: %s",
                entry.action,
                extra={
                    "audit": True,
                    "workflow_id": entry.workflow_id,
                    "owner": entry.owner,
                    "workflow": entry.name,
                    "detail": dict(entry.detail),
                },
            )

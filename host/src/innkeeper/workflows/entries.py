"""What the handler knows of each workflow beyond its row: what became of the last try, and when the next is due."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from attrs import define
from google.protobuf.message import DecodeError

from innkeeper.engine.engine import Engine, EngineState
from innkeeper.store.specs import SpecHeader, SpecStatus
from innkeeper.workflows.deployment import locator_digest
from innkeeper.workflows.verdict import Verdict
from innkeeper.workflows.views import TriggerView, WorkflowState, WorkflowView
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import TriggerSubscriptionRequest

__all__ = ["Entry", "view"]


@define(eq=False)
class Entry:
    """One workflow, between its row and its engine.

    Attributes:
        header: The workflow, as last read.
        verdict: What became of the last start; None if it runs, or was not tried.
        failures: Starts that failed in a row.
        due: When to try again, on the monotonic clock; None is never by itself.
        starting: Whether it is being started.
        simulated: Whether it is in no table.
        settled: Whether, since it last ran, what it had not executed was ended.
    """

    header: SpecHeader
    verdict: Verdict | None = None
    failures: int = 0
    due: float | None = 0.0
    starting: bool = False
    simulated: bool = False
    settled: bool = False

    def begin_anew(self) -> None:
        """Forget what failed before: the next try is due now."""
        self.verdict = None
        self.failures = 0
        self.due = 0.0


def view(entry: Entry, engine: Engine | None) -> WorkflowView:
    """Return what an operator sees of a workflow.

    Args:
        entry: The workflow.
        engine: Its engine, if there is one.
    """
    header = entry.header
    state, reason = _state(entry, engine)
    return WorkflowView(
        workflow_id=header.workflow_id,
        owner=header.owner,
        name=header.name,
        tag=header.tag,
        kind=header.kind,
        status=header.status,
        state=state,
        reason=reason,
        module="" if engine is None else engine.module.main,
        attributes=header.attributes,
        binary_url=header.binary_url,
        binary_sha256=locator_digest(header.binary_url),
        source=header.source,
        created_at=header.created_at,
        updated_at=header.updated_at,
        triggers=tuple(_triggers(header, engine)),
        active=0 if engine is None else engine.active,
        queued=0 if engine is None else engine.queued,
        dropped_events=0 if engine is None else engine.dropped_events,
    )


def _state(entry: Entry, engine: Engine | None) -> tuple[WorkflowState, str]:
    if engine is not None:
        if engine.state is EngineState.RUNNING:
            return WorkflowState.RUNNING, "; ".join(engine.faults)
        return WorkflowState.DRAINING, f"{engine.active} executions are still running"
    if entry.header.status is SpecStatus.DELETED:
        return WorkflowState.DRAINING, "it is being deleted"
    if entry.header.status is SpecStatus.PAUSED:
        return WorkflowState.PAUSED, ""
    if entry.starting or entry.verdict is None:
        return WorkflowState.STARTING, ""
    return entry.verdict.state, entry.verdict.reason


def _triggers(header: SpecHeader, engine: Engine | None) -> Iterator[TriggerView]:
    known = TriggerSubscriptionRequest()
    if engine is not None:
        known = engine.subscriptions
    else:
        # A column that another version wrote is not worth failing a list for.
        with suppress(DecodeError):
            known = TriggerSubscriptionRequest.FromString(header.subscriptions)
    for index, subscription in enumerate(known.subscriptions):
        yield TriggerView(
            index=index,
            id=subscription.id,
            method=subscription.method,
            payload=subscription.payload,
            module="" if engine is None else engine.module.module_of(index) or "",
        )

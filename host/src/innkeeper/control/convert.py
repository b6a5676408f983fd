"""The host's records as messages of the control protocol."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper.capabilities.registry import Listed
from innkeeper.modules.messages import Messages
from innkeeper.providers.parts import PartRow
from innkeeper.providers.states import ProviderStatusRow
from innkeeper.store.executions import ExecutionRecord
from innkeeper.store.logs import LogLine
from innkeeper.workflows.views import TriggerView, WorkflowView
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["capability", "execution", "log_line", "provider", "timestamp", "workflow"]


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a moment as a message; None stays None."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def provider(row: ProviderStatusRow) -> pb.Provider:
    """Return a provider's row."""
    return pb.Provider(
        id=row.id,
        title=row.title,
        package=row.package,
        version=row.version,
        mode=row.mode,
        state=row.status.state.value,
        reason=row.status.reason,
        since=timestamp(row.status.since),
        required=row.required,
        origin=row.origin,
        parts=map(_part, row.parts),
    )


def capability(listed: Listed) -> pb.Capability:
    """Return a capability as the operator sees it."""
    return pb.Capability(
        id=listed.info.id,
        type=listed.info.type.value,
        description=listed.info.description,
        visibility=listed.visibility.value,
        provider=listed.provider_id,
        methods=[
            pb.Method(name=name, input=method.input or "", output=method.output or "", idempotent=method.idempotent)
            for name, method in sorted(listed.info.methods.items())
        ],
        granted_to=listed.granted_to,
        ready=listed.ready,
    )


def workflow(view: WorkflowView, messages: Messages) -> pb.Workflow:
    """Return a workflow.

    Args:
        view: The workflow.
        messages: What shows its triggers' configurations.
    """
    return pb.Workflow(
        workflow_id=view.workflow_id,
        owner=view.owner,
        name=view.name,
        tag=view.tag,
        status=view.status.value,
        state=view.state.value,
        reason=view.reason,
        module=view.module,
        kind=view.kind,
        attributes=view.attributes,
        binary_url=view.binary_url,
        binary_sha256=view.binary_sha256,
        source=view.source,
        created_at=timestamp(view.created_at),
        updated_at=timestamp(view.updated_at),
        triggers=[_trigger(trigger, messages) for trigger in view.triggers],
        active=view.active,
        queued=view.queued,
        dropped_events=view.dropped_events,
    )


def execution(record: ExecutionRecord) -> pb.Execution:
    """Return an execution, without its log."""
    return pb.Execution(
        execution_id=record.execution_id,
        workflow_id=record.workflow_id,
        trigger_index=record.trigger_index,
        event_id=record.event_id,
        status=record.status.value,
        attempt=record.attempt,
        result=record.result,
        error=record.error,
        accepted_at=timestamp(record.accepted_at),
        started_at=timestamp(record.started_at),
        finished_at=timestamp(record.finished_at),
        dropped_logs=record.dropped_logs,
        seconds=record.seconds or 0.0,
    )


def log_line(line: LogLine) -> pb.LogLine:
    """Return a line of a workflow's log."""
    return pb.LogLine(
        workflow_id=line.workflow_id,
        execution_id=line.execution_id,
        time=timestamp(line.time),
        message=line.message,
    )


def _part(row: PartRow) -> pb.Part:
    return pb.Part(
        name=row.name,
        mode=row.mode,
        state=row.state.value,
        reason=row.reason,
        since=timestamp(row.since),
        pid=row.pid,
        generation=row.generation,
    )


def _trigger(view: TriggerView, messages: Messages) -> pb.Trigger:
    return pb.Trigger(
        index=view.index,
        id=view.id,
        method=view.method,
        payload=view.payload,
        payload_json=messages.to_json(view.payload) or "",
        module=view.module,
    )

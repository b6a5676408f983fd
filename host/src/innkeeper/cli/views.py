"""The records of the control protocol as JSON-able ones: what ``-o json`` shows, and so a public interface.

Rules of this module:

1. Keys are the fields' names; times are RFC 3339; what is absent is ``null``.
2. Attributes and results are shown as what they say, not as bytes.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecutionResult
from innkeeper_sdk.values import to_jsonable

__all__ = ["capability", "execution", "host", "log_line", "part", "provider", "result", "trigger", "workflow"]


def host(message: pb.Host) -> dict[str, Any]:
    """Return a host."""
    return {
        "name": message.name,
        "version": message.version,
        "environment": message.environment,
        "pid": message.pid,
        "ready": message.ready,
        "draining": message.draining,
        "started_at": _time(message, "started_at"),
        "data_dir": message.data_dir,
    }


def provider(message: pb.Provider) -> dict[str, Any]:
    """Return a provider."""
    return {
        "id": message.id,
        "title": message.title,
        "package": message.package,
        "version": message.version,
        "mode": message.mode,
        "state": message.state,
        "reason": message.reason,
        "since": _time(message, "since"),
        "required": message.required,
        "origin": message.origin,
        "parts": [part(p) for p in message.parts],
    }


def part(message: pb.Part) -> dict[str, Any]:
    """Return a part of a provider."""
    return {
        "name": message.name,
        "mode": message.mode,
        "state": message.state,
        "reason": message.reason,
        "since": _time(message, "since"),
        "pid": message.pid if message.HasField("pid") else None,
        "generation": message.generation if message.HasField("generation") else None,
    }


def capability(message: pb.Capability) -> dict[str, Any]:
    """Return a capability."""
    return {
        "id": message.id,
        "type": message.type,
        "description": message.description,
        "visibility": message.visibility,
        "provider": message.provider,
        "methods": [
            {"name": m.name, "input": m.input, "output": m.output, "idempotent": m.idempotent} for m in message.methods
        ],
        "granted_to": list(message.granted_to),
        "ready": message.ready,
    }


def trigger(message: pb.Trigger) -> dict[str, Any]:
    """Return a trigger subscription."""
    return {
        "index": message.index,
        "id": message.id,
        "method": message.method,
        "type": message.payload.type_url.rpartition("/")[2],
        # Null if no installed provider declares its message.
        "config": json.loads(message.payload_json) if message.payload_json else None,
        "module": message.module,
    }


def workflow(message: pb.Workflow) -> dict[str, Any]:
    """Return a workflow."""
    return {
        "workflow_id": message.workflow_id,
        "owner": message.owner,
        "name": message.name,
        "tag": message.tag,
        "status": message.status,
        "state": message.state,
        "reason": message.reason,
        "module": message.module,
        "kind": message.kind,
        "attributes": json.loads(message.attributes) if message.attributes else {},
        "binary_url": message.binary_url,
        "binary_sha256": message.binary_sha256,
        "source": message.source,
        "created_at": _time(message, "created_at"),
        "updated_at": _time(message, "updated_at"),
        "triggers": [trigger(t) for t in message.triggers],
        "active": message.active,
        "queued": message.queued,
        "dropped_events": message.dropped_events,
    }


def log_line(message: pb.LogLine) -> dict[str, Any]:
    """Return a line of a workflow's log."""
    return {
        "workflow_id": message.workflow_id,
        "execution_id": message.execution_id,
        "time": _time(message, "time"),
        "message": message.message,
    }


def execution(message: pb.Execution) -> dict[str, Any]:
    """Return an execution."""
    return {
        "execution_id": message.execution_id,
        "workflow_id": message.workflow_id,
        "trigger_index": message.trigger_index,
        "event_id": message.event_id,
        "status": message.status,
        "attempt": message.attempt,
        "result": result(message),
        "accepted_at": _time(message, "accepted_at"),
        "started_at": _time(message, "started_at"),
        "finished_at": _time(message, "finished_at"),
        "seconds": message.seconds,
        "dropped_logs": message.dropped_logs,
        "logs": [log_line(line) for line in message.logs],
    }


def result(message: pb.Execution) -> dict[str, Any] | None:
    """Return what an execution came to: ``{"value": …}``, ``{"error": text}``, or None while it has not finished."""
    if message.error:
        return {"error": message.error}
    if not message.HasField("finished_at"):
        return None
    outcome = ExecutionResult.FromString(message.result)
    match outcome.WhichOneof("result"):
        case "value":
            return {"value": to_jsonable(outcome.value)}
        case "error":
            return {"error": outcome.error}
        case other:
            return {"error": f"the workflow answered with {other or 'nothing'} instead of a value"}


def _time(message: Any, name: str) -> str | None:
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToJsonString()

"""What an operator sees of a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from attrs import field, frozen
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.store.specs import SpecStatus

__all__ = ["TriggerView", "WorkflowState", "WorkflowView"]


class WorkflowState(Enum):
    """What is, as opposed to what is asked for."""

    STARTING = "starting"
    RUNNING = "running"
    # It cannot start yet: something that it needs is not ready.
    DEFERRED = "deferred"
    FAILED = "failed"
    DRAINING = "draining"
    PAUSED = "paused"


@frozen
class TriggerView:
    """One trigger of a workflow.

    Attributes:
        index: From 0.
        id: The capability's id, as the workflow asked for it.
        method: Its method.
        payload: Its configuration.
        module: The module type that its executions run on; empty while nothing runs.
    """

    index: int
    id: str
    method: str
    payload: AnyMessage
    module: str = ""


@frozen
class WorkflowView:
    """One workflow.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits.
        name: As deployed.
        tag: As deployed.
        kind: The kind of its binary.
        status: What is asked for.
        state: What is.
        reason: Why it is deferred, failed or draining, or which triggers are silent; empty if all is well.
        module: The module type that it runs on; empty while it does not run.
        attributes: The JSON text as deployed.
        binary_url: Where the binary came from.
        binary_sha256: 64 hexadecimal digits of the stored binary; empty if its locator does not say.
        source: The source that lists it.
        created_at: When it was first deployed.
        updated_at: When it was last changed.
        triggers: What its binary last subscribed to.
        active: Executions that run now.
        queued: Events that wait now.
        dropped_events: Events that could not be accepted since it was started.
    """

    workflow_id: str
    owner: str
    name: str
    tag: str
    kind: str
    status: SpecStatus
    state: WorkflowState
    reason: str
    module: str
    attributes: bytes
    binary_url: str
    binary_sha256: str
    source: str
    created_at: datetime
    updated_at: datetime
    triggers: Sequence[TriggerView] = field(factory=tuple)
    active: int = 0
    queued: int = 0
    dropped_events: int = 0

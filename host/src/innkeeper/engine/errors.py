"""How an engine, an execution or a trigger can fail."""

from __future__ import annotations

from innkeeper_sdk.errors import ConflictError, HostError, WorkflowError

__all__ = [
    "DrainInProgressError",
    "EngineClosedError",
    "EngineDrainingError",
    "InDoubtError",
    "QueueFullError",
    "ReplayDivergenceError",
    "TriggerRegistrationError",
]


class EngineClosedError(ConflictError):
    """Raised when something is asked of an engine that has stopped."""

    code = "engine-closed"


class EngineDrainingError(ConflictError):
    """Raised when an execution is asked of an engine that only finishes what runs."""

    code = "engine-draining"


class DrainInProgressError(ConflictError):
    """Raised when a workflow cannot stop yet because executions of it still run; it stops when they are over."""

    code = "drain-in-progress"


class QueueFullError(HostError):
    """Raised when as many events wait as may wait."""

    code = "queue-full"


class TriggerRegistrationError(WorkflowError):
    """Raised when a workflow's triggers cannot all be registered."""

    code = "trigger-registration"


class ReplayDivergenceError(WorkflowError):
    """Raised when a new attempt of an execution asks for something else than the attempt before it."""

    code = "replay-divergence"


class InDoubtError(HostError):
    """Raised when an execution cannot go on because the effect of a call is unknown."""

    code = "in-doubt"

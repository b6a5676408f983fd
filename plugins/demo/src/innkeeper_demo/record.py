"""What a demonstration found: the object that ``innkeeper demo -o json`` prints, and so a public interface.

Rules of this module:

1. Every key is always there. What was not reached is empty, null or false, and then ``ok`` is false.
2. Only what was seen is recorded: states and process ids as the host and ``/proc`` tell them, errors as guests got
   them.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, asdict, define, frozen

__all__ = [
    "ConfidentialRecord",
    "DemoRecord",
    "ExecutionRecord",
    "InternalCall",
    "LeftProcess",
    "Leftovers",
    "ProviderRow",
    "WorkflowRecord",
]


@frozen
class ProviderRow:
    """A host part or process part: ``mode`` is ``host`` or ``loop``; helpers have no row, host parts no generation."""

    id: str
    mode: str
    state: str
    pid: int | None
    generation: int | None


@frozen
class ExecutionRecord:
    """A finished execution; ``result`` is ``{"value": …}`` or ``{"error": text}``, as ``executions show`` has it."""

    execution_id: str
    status: str
    result: Any


@define
class WorkflowRecord:
    """A deployed workflow and its successful executions, oldest first."""

    workflow_id: str = ""
    executions: list[ExecutionRecord] = Factory(list)


@define
class ConfidentialRecord(WorkflowRecord):
    """The same of the confidential workflow.

    Attributes:
        binary_sha256: Of its binary as the host stores it, lower-case hexadecimal.
        enclave_pids: Processes seen below the LOOP process or its launcher while it ran, in order of their numbers.
    """

    binary_sha256: str = ""
    enclave_pids: list[int] = Factory(list)


@frozen
class InternalCall:
    """A workflow's attempt to call an internal capability: whether it was refused, and the error that it got."""

    id: str
    refused: bool
    error: str


@frozen
class LeftProcess:
    """A process that outlived its host."""

    pid: int
    name: str


@define
class Leftovers:
    """What was still there after the host had stopped; paths are relative to its runtime directory."""

    processes: list[LeftProcess] = Factory(list)
    sockets: list[str] = Factory(list)
    files: list[str] = Factory(list)


@define
class DemoRecord:
    """All of it.

    Attributes:
        ok: Whether everything held.
        seconds: From the start of the command to its end, builds included.
        providers: A row for each host part and process part, as it stood before the host was stopped.
        plain: The workflow that ran in the open.
        confidential: The one that ran in the enclave.
        internal_calls: What the hostile workflow met with.
        unknown_error: What it met with when it asked for a capability that does not exist.
        leftovers: What was left.
    """

    ok: bool = False
    seconds: float = 0.0
    providers: list[ProviderRow] = Factory(list)
    plain: WorkflowRecord = Factory(WorkflowRecord)
    confidential: ConfidentialRecord = Factory(ConfidentialRecord)
    internal_calls: list[InternalCall] = Factory(list)
    unknown_error: str = ""
    leftovers: Leftovers = Factory(Leftovers)

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON-able object."""
        shown = asdict(self)
        # The order is part of how it reads.
        shown["unknown_call"] = {"error": shown.pop("unknown_error")}
        shown["leftovers"] = shown.pop("leftovers")
        return shown

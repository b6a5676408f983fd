"""How an execution ended, and what the caller of a module is told about it.

An :class:`Ending` is what a process says of its guest; :func:`failure` turns it into the error text of the reference.
Exit codes are numbers here: the reference finds them by searching texts, so that a text could pass for a success.
"""

from __future__ import annotations

import struct
from enum import StrEnum

from attrs import field, frozen, validators

__all__ = ["EXIT_TEXTS", "MAX_TEXT_BYTES", "REPORTABLE", "Ending", "EndingKind", "failure"]

MAX_TEXT_BYTES = 4096
"""Longest text of an ending; a trap's backtrace is cut to it."""

EXIT_TEXTS = {
    110: "invariant violation: error marshaling response",
    111: "invariant violation: invalid request to runner",
    112: "error executing runner",
    113: "invariant violation: host errored during sendResponse",
}
"""Exit codes that SDKs use with a meaning (CodeInvalidResponse, InvalidRequest, RunnerErr, HostErr)."""


class EndingKind(StrEnum):
    """In which way an execution ended."""

    EXIT = "exit"
    """``proc_exit`` with :attr:`Ending.code`."""
    RETURN = "return"
    """``_start`` returned."""
    TRAP = "trap"
    """The guest trapped."""
    LINK = "link"
    """The guest could not be instantiated, or has no ``_start``."""
    HOST_PANIC = "host_panic"
    """A host function, or what it called, failed in a way that has no answer for the guest."""
    DEADLINE = "deadline"
    """Killed at the deadline of the execution."""
    PREFIX_DEADLINE = "prefix_deadline"
    """Killed because it made no host call by the deadline of the prefix."""
    CRASHED = "crashed"
    """The process died of :attr:`Ending.signal`, or ended or spoke in a way that it must not."""
    LOST = "lost"
    """The process died with the one that it came from; not the guest's doing."""


@frozen(kw_only=True)
class Ending:
    """How one execution, or the prefix of all executions of a binary, ended.

    Args:
        kind: In which way.
        code: The exit code, for :attr:`EndingKind.EXIT`.
        signal: The signal that ended the process, for :attr:`EndingKind.CRASHED`; 0 if none did.
        text: What to say about it, one or more lines.
    """

    kind: EndingKind
    code: int = field(default=0, validator=validators.instance_of(int))
    signal: int = field(default=0, validator=validators.instance_of(int))
    text: str = field(default="", validator=validators.instance_of(str))

    def pack(self) -> bytes:
        """Return the payload of an OUTCOME frame: number of the kind, exit code, text."""
        text = self.text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]
        return _PACKED.pack(_REPORTABLE.index(self.kind), self.code) + text

    @classmethod
    def unpack(cls, payload: bytes) -> Ending:
        """Return the ending that a process has reported.

        Raises:
            ValueError: If the payload is not what :meth:`pack` makes.
        """
        if not _PACKED.size <= len(payload) <= _PACKED.size + MAX_TEXT_BYTES:
            raise ValueError(f"an outcome of {len(payload)} bytes")
        number, code = _PACKED.unpack_from(payload)
        if number >= len(_REPORTABLE):
            raise ValueError(f"an outcome of kind {number}")
        # The text may have been cut in the middle of a character.
        return cls(kind=_REPORTABLE[number], code=code, text=payload[_PACKED.size :].decode("utf-8", "ignore"))


_REPORTABLE = (EndingKind.EXIT, EndingKind.RETURN, EndingKind.TRAP, EndingKind.LINK, EndingKind.HOST_PANIC)
_PACKED = struct.Struct("<Bi")

REPORTABLE = frozenset(_REPORTABLE)
"""What a process can say of itself; the other kinds are what others see of it."""


def failure(ending: Ending, *, responded: bool) -> str | None:
    """Return the error text of an execution, or None if it succeeded.

    Args:
        ending: How it ended.
        responded: Whether a response of it was accepted.

    Two cases are ours, because the reference has a fault there: an end without response is an error (the reference
    returns neither result nor error), and ``_start`` returning after a response is a success (the reference drops it).
    """
    kind = ending.kind
    if kind is EndingKind.RETURN or (kind is EndingKind.EXIT and ending.code == 0):
        return None if responded else "could not find response for execution"
    if kind is EndingKind.EXIT:
        return EXIT_TEXTS.get(ending.code, f"wasm exited with exit status {ending.code}")
    prefix = _PREFIXES.get(kind, "")
    return f"{prefix}: {ending.text}" if prefix and ending.text else ending.text or prefix or str(kind)


_PREFIXES = {
    EndingKind.HOST_PANIC: "panic during wasm execution",
    EndingKind.DEADLINE: "context deadline exceeded",
    EndingKind.PREFIX_DEADLINE: "context deadline exceeded",
}

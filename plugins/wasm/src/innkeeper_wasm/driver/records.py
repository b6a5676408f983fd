"""What the driver takes and gives: callbacks of an execution, and how it ended."""

from __future__ import annotations

from typing import Protocol

from attrs import field, frozen

from innkeeper_wasm.runtime.outcome import Ending, EndingKind, failure

__all__ = ["CallRefused", "Callbacks", "Outcome"]


class CallRefused(Exception):
    """Raised by a callback whose answer to the guest is an error text.

    Args:
        text: The text, complete: the guest gets it as it is, cut to its buffer.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Callbacks(Protocol):
    """What an execution asks of its host. One question is open at a time; it is cancelled when the execution ends.

    ``call_capability``, ``await_capabilities``, ``get_secrets``, ``await_secrets``, ``now`` and ``node_time`` may raise
    :class:`CallRefused`. Any other exception ends the execution as a host panic.
    """

    async def call_capability(self, request: bytes) -> None:
        """Start the call of a serialised CapabilityRequest."""

    async def await_capabilities(self, request: bytes) -> bytes:
        """Wait for the calls of a serialised AwaitCapabilitiesRequest; return the response."""

    async def get_secrets(self, request: bytes) -> None:
        """Start fetching the secrets of a serialised GetSecretsRequest."""

    async def await_secrets(self, request: bytes) -> bytes:
        """Wait for the secrets of a serialised AwaitSecretsRequest; return the response."""

    async def now(self, mode: int) -> int:
        """Return the time in nanoseconds: DON time in mode 1, node time in every other."""

    async def node_time(self) -> int:
        """Return node time in nanoseconds."""

    async def emit_metric(self, metric: bytes) -> int:
        """Take a serialised WorkflowUserMetric; return 0, or -1 if it is not taken."""

    async def send_response(self, response: bytes) -> int:
        """Check a serialised ExecutionResult; return 0 to accept it, 21 if it is not one. The driver keeps the
        last one."""

    def log(self, mode: int, line: bytes) -> None:
        """Take a user log line; it need not be UTF-8."""


@frozen(kw_only=True)
class Outcome:
    """How an execution ended.

    Args:
        ending: In which way.
        response: The last response that was accepted, if any. Whether it counts is what :attr:`error` says.
        seconds: How long it took, the building of a zygote included.
        cold: Whether its zygote had to be built first.
    """

    ending: Ending
    response: bytes | None = None
    seconds: float = field(default=0.0)
    cold: bool = field(default=False)

    @property
    def kind(self) -> EndingKind:
        """In which way it ended."""
        return self.ending.kind

    @property
    def error(self) -> str | None:
        """The error text, or None if the execution succeeded, and :attr:`response` is its result."""
        return failure(self.ending, responded=self.response is not None)

    @property
    def killed_by_deadline(self) -> bool:
        """Whether it was ended because its time, or that of its prefix, was over."""
        return self.ending.kind in (EndingKind.DEADLINE, EndingKind.PREFIX_DEADLINE)

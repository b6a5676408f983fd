"""Which executions run, and which have: nothing is run twice.

Rules of this module:

1. An execution is reserved in one step: of two requests for it, one runs, and the other is refused.
2. One that is over answers the identical request with the same bytes, and refuses every other.
3. One that has failed is forgotten: it may be tried again, as the next attempt.
4. A full table refuses. It forgets only what is older than a day: what it has forgotten could be run again.
5. Results are kept for as long as their sum is bounded; of one whose result had to go, it is still known that it ran.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from attrs import define, field, frozen

from innkeeper_sdk.capability import CapabilityError, ErrorCode

__all__ = ["Key", "Reservations"]

# The reference's replay caches (chainlink-confidential-compute): entries and seconds.
_CAPACITY: Final = 500_000
_SECONDS: Final = 24 * 3600.0
_RESULT_BYTES: Final = 256 * 1024 * 1024


@frozen
class Key:
    """What is run once.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        execution_id: 64 hexadecimal digits.
        phase: What the guest is asked for: an execution has a pre-hook and a trigger.
    """

    workflow_id: str
    execution_id: str
    phase: str


@define
class _Entry:
    request_sha256: bytes
    since: float
    result: bytes | None = field(default=None, repr=False)


class Reservations:
    """The executions of one enclave, since its start.

    Args:
        monotonic: A clock that nobody sets, in seconds.
        capacity: Most executions that are known.
        seconds: How long one that is over is known.
        result_bytes: Most bytes of results that are kept.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        capacity: int = _CAPACITY,
        seconds: float = _SECONDS,
        result_bytes: int = _RESULT_BYTES,
    ) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._seconds = seconds
        self._room = result_bytes
        self._running: dict[Key, _Entry] = {}
        # In the order in which they ended.
        self._over: OrderedDict[Key, _Entry] = OrderedDict()
        self._kept: OrderedDict[Key, _Entry] = OrderedDict()

    def reserve(self, key: Key, request_sha256: bytes) -> bytes | None:
        """Reserve an execution.

        Args:
            key: Which one.
            request_sha256: Of the request for it.

        Returns:
            None if it is to be run, and then ended by :meth:`executed` or :meth:`failed`; or the result that the same
            request had.

        Raises:
            CapabilityError: It runs, or has run for another request, or the table is full.
        """
        self._forget()
        if key in self._running:
            raise _replayed("the execution is running", ErrorCode.Aborted)
        entry = self._over.get(key)
        if entry is None:
            if len(self._running) + len(self._over) >= self._capacity:
                raise CapabilityError(
                    "rate_limited: this enclave knows as many executions as it may",
                    error_code=ErrorCode.ResourceExhausted,
                )
            self._running[key] = _Entry(request_sha256, self._monotonic())
            return None
        if not compare_digest(entry.request_sha256, request_sha256):
            raise _replayed("the execution has been run for another request", ErrorCode.AlreadyExists)
        if entry.result is None:
            raise _replayed("the execution has been run, and its result is not kept any more", ErrorCode.AlreadyExists)
        return entry.result

    def executed(self, key: Key, result: bytes) -> None:
        """Say that an execution that was reserved is over."""
        entry = self._running.pop(key)
        entry.since, entry.result = self._monotonic(), result
        self._over[key] = self._kept[key] = entry
        self._room -= len(result)
        while self._room < 0:
            _, oldest = self._kept.popitem(last=False)
            self._drop(oldest)

    def failed(self, key: Key) -> None:
        """Say that an execution that was reserved has failed."""
        del self._running[key]

    def _forget(self) -> None:
        limit = self._monotonic() - self._seconds
        while self._over and (first := next(iter(self._over.items())))[1].since <= limit:
            del self._over[first[0]]
            if self._kept.pop(first[0], None) is not None:
                self._drop(first[1])

    def _drop(self, entry: _Entry) -> None:
        self._room += len(entry.result or b"")
        entry.result = None


def _replayed(text: str, code: ErrorCode) -> CapabilityError:
    return CapabilityError(f"replayed: {text}", error_code=code)

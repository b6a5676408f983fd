"""The stream between a driver and one execution: frames, their kinds, and how much either side may send.

A frame is ``u32 length (little-endian) | u8 kind | payload``; the length counts kind and payload. The child asks, the
driver answers, one question at a time; ``LOG``, ``NOTICE`` and ``OUTCOME`` are not answered. Either side treats a frame
that is too long, of an unknown kind or out of turn as the end of the conversation: a guest that has broken out of its
engine can say nothing else than these frames.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from attrs import frozen

from innkeeper_wasm.runtime.limits import GuestLimits

__all__ = [
    "BUFFER_TOO_SMALL",
    "CALLS",
    "HEADER",
    "MAX_NOTICES",
    "OVERHEAD_BYTES",
    "Frame",
    "FrameReader",
    "Kind",
    "Request",
    "WireError",
    "encode",
    "header",
]

OVERHEAD_BYTES = 4096
"""What a frame may be longer than the largest message: headers, and texts that are cut to fit."""

MAX_NOTICES = 100
"""Most notices of one execution: it keeps the bound itself, and more of them end it."""

BUFFER_TOO_SMALL = b"response buffer too small"
"""What a guest is told when an answer does not fit its buffer; both sides may find out."""

_LENGTH = struct.Struct("<I")
HEADER = struct.Struct("<IB")
"""Length (of kind and payload) and kind of a frame."""
_SEEDS = struct.Struct("<qq")


class Kind(IntEnum):
    """What a frame is."""

    # Asked by the child, answered by the driver. Payloads are the guest's bytes unless said otherwise.
    CALL_CAPABILITY = 1
    AWAIT_CAPABILITIES = 2  # i64 capacity of the guest's buffer (-1: unusable) | bytes
    GET_SECRETS = 3
    AWAIT_SECRETS = 4  # as AWAIT_CAPABILITIES
    NOW = 5  # u32 mode -> i64 nanoseconds
    NODE_TIME = 6  # nothing -> i64 nanoseconds
    EMIT_METRIC = 7  # -> i32
    SEND_RESPONSE = 8  # -> i32
    # Said by the child.
    LOG = 16  # u32 mode | bytes
    NOTICE = 17  # text for the host's own log
    OUTCOME = 18  # see innkeeper_wasm.runtime.outcome
    # Said by the driver.
    REQUEST = 32  # once, first
    OK = 33
    ERROR = 34  # text for the guest


CALLS = frozenset(
    {
        Kind.CALL_CAPABILITY,
        Kind.AWAIT_CAPABILITIES,
        Kind.GET_SECRETS,
        Kind.AWAIT_SECRETS,
        Kind.NOW,
        Kind.NODE_TIME,
        Kind.EMIT_METRIC,
        Kind.SEND_RESPONSE,
    }
)


class WireError(Exception):
    """Raised when the peer breaks the framing."""


@frozen
class Frame:
    """One frame.

    Args:
        kind: What it is.
        payload: Its bytes.
    """

    kind: Kind
    payload: bytes


def header(kind: int, length: int) -> bytes:
    """Return what precedes a payload of ``length`` bytes."""
    return HEADER.pack(length + 1, kind)


def encode(kind: int, payload: bytes = b"") -> bytes:
    """Return the frame of ``kind`` with ``payload`` as bytes."""
    return HEADER.pack(len(payload) + 1, kind) + payload


class FrameReader:
    """Cut a stream of bytes into frames.

    Args:
        max_bytes: Most bytes that a frame may have, its length field not counted.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Append what was received."""
        self._buffer += data

    @property
    def missing(self) -> int:
        """How many bytes the frame that has begun still needs, at least; 0 if one is complete."""
        have = len(self._buffer)
        if have < _LENGTH.size:
            return _LENGTH.size - have
        return max(0, _LENGTH.size + int(_LENGTH.unpack_from(self._buffer)[0]) - have)

    def next(self) -> Frame | None:
        """Return the next complete frame, or None if more bytes are needed.

        Raises:
            WireError: If the frame is empty, too long or of an unknown kind.
        """
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            return None
        length, number = HEADER.unpack_from(buffer)
        if not 1 <= length <= self._max:
            raise WireError(f"a frame of {length} bytes, expected 1 to {self._max}")
        try:
            kind = Kind(number)
        except ValueError:
            raise WireError(f"a frame of unknown kind {number}") from None
        end = _LENGTH.size + length
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[HEADER.size : end])
        del buffer[:end]
        return Frame(kind, payload)


@frozen(kw_only=True)
class Request:
    """What an execution gets once, before it answers the guest's first host call.

    Args:
        request: The serialised ExecuteRequest that the guest finds in its arguments.
        don_seed: Seed of DON mode, a signed 64-bit number.
        node_seed: Seed of NODE mode, the same.
        limits: The limits of this execution.
    """

    request: bytes
    don_seed: int
    node_seed: int
    limits: GuestLimits

    def pack(self) -> bytes:
        """Return the payload of the REQUEST frame."""
        limits = self.limits.pack()
        return _SEEDS.pack(self.don_seed, self.node_seed) + bytes([len(limits)]) + limits + self.request

    @classmethod
    def unpack(cls, payload: bytes) -> Request:
        """Return the request whose payload this is.

        Raises:
            WireError: If the payload is shorter than its fixed part.
        """
        try:
            don_seed, node_seed = _SEEDS.unpack_from(payload)
            start = _SEEDS.size + 1
            end = start + payload[_SEEDS.size]
            limits = GuestLimits.unpack(payload[start:end])
        except (struct.error, IndexError, ValueError) as error:
            raise WireError(f"a request that cannot be read: {error}") from error
        return cls(request=payload[end:], don_seed=don_seed, node_seed=node_seed, limits=limits)

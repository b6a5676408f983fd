"""Limits of compiling and of running a guest, as records that cross process boundaries.

The defaults are those of a node of the reference (1 kB = 1000 B); a limit that is passed is inclusive: a value equal to
it is allowed.
"""

from __future__ import annotations

import struct
from typing import Any

from attrs import asdict, field, frozen, validators

__all__ = ["HOST_SIDE_BYTES", "MAX_MEMORY_BYTES", "CompileLimits", "GuestLimits"]

MAX_MEMORY_BYTES = 1 << 32
"""Most that a 32-bit guest can address."""
HOST_SIDE_BYTES = 268_435_456
"""What a process may allocate beside its guest's memory: room for the copies of a large request."""

_positive = [validators.instance_of(int), validators.ge(1), validators.lt(1 << 63)]
_count = [validators.instance_of(int), validators.ge(0), validators.lt(1 << 31)]


@frozen(kw_only=True)
class CompileLimits:
    """Bound what admitting one binary may cost.

    Args:
        compressed_bytes: Most bytes of the binary as stored (``WASMCompressedBinarySizeLimit``); not applied to a
            binary that is stored uncompressed.
        binary_bytes: Most bytes after brotli is removed (``WASMBinarySizeLimit``).
        wall_seconds: Time after which the driver kills the compile child.
        cpu_seconds: ``RLIMIT_CPU`` of the compile child, over all of its threads.
        memory_bytes: ``RLIMIT_AS`` of the compile child.
        output_bytes: ``RLIMIT_FSIZE`` of the compile child: most bytes of the compiled module.
    """

    compressed_bytes: int = field(default=20_000_000, validator=_positive)
    binary_bytes: int = field(default=100_000_000, validator=_positive)
    wall_seconds: float = field(default=120.0, validator=[validators.gt(0), validators.lt(1 << 31)])
    cpu_seconds: int = field(default=240, validator=_positive)
    memory_bytes: int = field(default=6_000_000_000, validator=_positive)
    output_bytes: int = field(default=1_000_000_000, validator=_positive)

    def to_json(self) -> dict[str, Any]:
        """Return the limits as a JSON object, for the control message that asks for a compilation."""
        return asdict(self)


@frozen(kw_only=True)
class GuestLimits:
    """Bound what one execution may do.

    Args:
        log_line_bytes: Longest user log line; a longer one is dropped (``LogLineLimit``).
        log_events_don: User log lines of DON mode that are delivered (``LogEventLimit``).
        log_events_node: The same for NODE mode.
        metrics: Whether user metrics are taken at all (``UserMetricEnabled``).
        metric_bytes: Largest metric payload.
        poll_subscriptions: Most subscriptions of one ``poll_oneoff``.
        message_bytes: Largest request or response that the guest may hand over in one call. The reference has no such
            limit (a guest's memory is its limit); this one keeps a guest from filling the driver's memory.
        cpu_seconds: ``RLIMIT_CPU`` of the execution: a second guard behind the driver's deadline. 0 sets none.
    """

    log_line_bytes: int = field(default=1_000, validator=_count)
    log_events_don: int = field(default=1_000, validator=_count)
    log_events_node: int = field(default=1_000, validator=_count)
    metrics: bool = field(default=False, validator=validators.instance_of(bool))
    metric_bytes: int = field(default=4_096, validator=_count)
    poll_subscriptions: int = field(default=128, validator=_count)
    message_bytes: int = field(default=100_000_000, validator=_count)
    cpu_seconds: int = field(default=0, validator=_count)

    def pack(self) -> bytes:
        """Return the limits in their fixed wire form."""
        return _GUEST.pack(*(getattr(self, name) for name in _GUEST_FIELDS))

    @classmethod
    def unpack(cls, data: bytes) -> GuestLimits:
        """Return the limits whose wire form is ``data``.

        Raises:
            struct.error: If ``data`` has another length than the wire form.
        """
        # Not through __init__: the values were validated where they were packed, and every validator that an execution
        # runs costs it copies of pages.
        limits = object.__new__(cls)
        for name, value in zip(_GUEST_FIELDS, _GUEST.unpack(data), strict=True):
            object.__setattr__(limits, name, value)
        return limits


_GUEST = struct.Struct("<III?IIII")
_GUEST_FIELDS = (
    "log_line_bytes",
    "log_events_don",
    "log_events_node",
    "metrics",
    "metric_bytes",
    "poll_subscriptions",
    "message_bytes",
    "cpu_seconds",
)

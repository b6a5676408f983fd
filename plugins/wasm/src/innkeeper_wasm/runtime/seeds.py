"""Seeds of random numbers: the same on every node in DON mode."""

from __future__ import annotations

__all__ = ["don_seed", "fnv1a64"]

_OFFSET_BASIS = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = (1 << 64) - 1


def fnv1a64(data: bytes) -> int:
    """Return the FNV-1a hash of ``data``, unsigned 64-bit."""
    value = _OFFSET_BASIS
    for byte in data:
        value = ((value ^ byte) * _PRIME) & _MASK
    return value


def don_seed(execution_id: str) -> int:
    """Return the seed of DON mode for an execution: the hash of its id, read as a signed 64-bit number."""
    value = fnv1a64(execution_id.encode())
    return value - (1 << 64) if value >> 63 else value

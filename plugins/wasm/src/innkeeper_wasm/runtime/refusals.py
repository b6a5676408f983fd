"""Why a binary is not admitted, and the size rules, which need neither the engine nor brotli.

A binary is taken as it is stored: wasm, brotli of wasm, or (only if the caller says so) WAT text. The texts are the
reference's where it has some.
"""

from __future__ import annotations

from enum import StrEnum

from innkeeper_wasm.runtime.limits import CompileLimits

__all__ = [
    "WASM_MAGIC",
    "BinaryKind",
    "Refusal",
    "RefusalCode",
    "check_binary_size",
    "check_stored_size",
    "stored",
]

WASM_MAGIC = b"\0asm"


class BinaryKind(StrEnum):
    """How a binary is stored."""

    WASM = "wasm"
    BROTLI = "brotli"
    WAT = "wat"


class RefusalCode(StrEnum):
    """Which rule a binary breaks."""

    COMPRESSED_TOO_LARGE = "wasm-compressed-too-large"
    BINARY_TOO_LARGE = "wasm-binary-too-large"
    NOT_BROTLI = "wasm-not-brotli"
    INVALID = "wasm-invalid"
    NO_MEMORY = "wasm-no-memory"
    COMPILE_LIMIT = "wasm-compile-limit"


class Refusal(Exception):
    """Raised when a binary is not admitted.

    Args:
        code: The rule it breaks.
        text: The same for a person.
    """

    def __init__(self, code: RefusalCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def stored(data: bytes, *, text: bool) -> BinaryKind:
    """Tell how a binary is stored, from its first bytes and from whether it is said to be WAT text."""
    if text:
        return BinaryKind.WAT
    return BinaryKind.WASM if data.startswith(WASM_MAGIC) else BinaryKind.BROTLI


def check_stored_size(size: int, kind: BinaryKind, limits: CompileLimits) -> None:
    """Refuse a compressed binary that is too large as stored.

    Raises:
        Refusal: If it is.
    """
    if kind is BinaryKind.BROTLI and size > limits.compressed_bytes:
        raise Refusal(
            RefusalCode.COMPRESSED_TOO_LARGE,
            "compressed binary size exceeds the maximum allowed size: limited: cannot use "
            f"{size}, limit is {limits.compressed_bytes}",
        )


def check_binary_size(size: int, limits: CompileLimits) -> None:
    """Refuse a binary that is too large without its compression.

    Raises:
        Refusal: If it is.
    """
    if size > limits.binary_bytes:
        raise Refusal(
            RefusalCode.BINARY_TOO_LARGE,
            "decompressed binary size reached the maximum allowed size: limited: cannot use "
            f"{size}, limit is {limits.binary_bytes}",
        )

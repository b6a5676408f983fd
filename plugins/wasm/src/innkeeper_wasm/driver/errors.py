"""What the driver raises: refusals of binaries, limits of compiling, and the loss of its processes.

How an *execution* ends is never an exception: see :class:`innkeeper_wasm.driver.Outcome`.
"""

from __future__ import annotations

from innkeeper_sdk.errors import ProviderFailedError, WorkflowError
from innkeeper_wasm.runtime.refusals import Refusal, RefusalCode

__all__ = [
    "BinaryInvalidError",
    "BinaryRefusedError",
    "BinaryTooLargeError",
    "CompileLimitError",
    "CompressedBinaryTooLargeError",
    "LegacyDagError",
    "MemoryExportError",
    "NotBrotliError",
    "RuntimeLostError",
    "refused",
]

_PROVIDER = "wasm"


class BinaryRefusedError(WorkflowError):
    """Raised when a binary is not admitted; the subclass says for which rule."""

    code = "wasm-refused"


class CompressedBinaryTooLargeError(BinaryRefusedError):
    """Raised when a binary is too large as stored."""

    code = RefusalCode.COMPRESSED_TOO_LARGE


class BinaryTooLargeError(BinaryRefusedError):
    """Raised when a binary is too large once brotli is removed."""

    code = RefusalCode.BINARY_TOO_LARGE


class NotBrotliError(BinaryRefusedError):
    """Raised when a binary is neither WebAssembly nor brotli."""

    code = RefusalCode.NOT_BROTLI


class BinaryInvalidError(BinaryRefusedError):
    """Raised when the compiler does not take a binary."""

    code = RefusalCode.INVALID


class MemoryExportError(BinaryRefusedError):
    """Raised when a binary does not export its memory as ``memory``."""

    code = RefusalCode.NO_MEMORY


class LegacyDagError(BinaryRefusedError):
    """Raised when a binary is a legacy DAG: it imports no ``version_v2…`` marker."""

    code = "wasm-legacy-dag"

    def __init__(self) -> None:
        super().__init__(
            "cannot execute a legacy dag workflow",
            expected="a binary that imports env.version_v2…",
            hint="build it with a current CRE SDK",
        )


class CompileLimitError(BinaryRefusedError):
    """Raised when compiling a binary takes more time or memory than it may."""

    code = RefusalCode.COMPILE_LIMIT


class RuntimeLostError(ProviderFailedError):
    """Raised when the processes that compile and run guests are not there, or went away under a request."""

    code = "wasm-runtime-lost"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, provider=_PROVIDER, hint=hint)


_REFUSALS: dict[RefusalCode, type[BinaryRefusedError]] = {
    RefusalCode.COMPRESSED_TOO_LARGE: CompressedBinaryTooLargeError,
    RefusalCode.BINARY_TOO_LARGE: BinaryTooLargeError,
    RefusalCode.NOT_BROTLI: NotBrotliError,
    RefusalCode.INVALID: BinaryInvalidError,
    RefusalCode.NO_MEMORY: MemoryExportError,
    RefusalCode.COMPILE_LIMIT: CompileLimitError,
}


def refused(refusal: Refusal) -> BinaryRefusedError:
    """Return the error for a refusal."""
    return _REFUSALS[refusal.code](refusal.text)

"""Drive the processes of :mod:`innkeeper_wasm.runtime` from an event loop.

Rules of this package:

1. It runs in the host's process, so it imports neither ``wasmtime`` nor ``brotli``, and nothing of it blocks the loop.
2. However a guest behaves, that is an :class:`Outcome`, never an exception of the driver.
3. Whatever ends (an execution, a wait, the driver) leaves no process, descriptor, task or timer behind.
"""

from innkeeper_wasm.driver.errors import (
    BinaryInvalidError,
    BinaryRefusedError,
    BinaryTooLargeError,
    CompileLimitError,
    CompressedBinaryTooLargeError,
    LegacyDagError,
    MemoryExportError,
    NotBrotliError,
    RuntimeLostError,
)
from innkeeper_wasm.driver.modules import CompiledModule, RuntimeStats, ZygoteStats
from innkeeper_wasm.driver.records import Callbacks, CallRefused, Outcome
from innkeeper_wasm.driver.root import RootCommand
from innkeeper_wasm.driver.runtime import Runtime
from innkeeper_wasm.driver.zygotes import HotSetLimits
from innkeeper_wasm.runtime.limits import CompileLimits, GuestLimits
from innkeeper_wasm.runtime.outcome import Ending, EndingKind
from innkeeper_wasm.runtime.seeds import don_seed

__all__ = [
    "BinaryInvalidError",
    "BinaryRefusedError",
    "BinaryTooLargeError",
    "CallRefused",
    "Callbacks",
    "CompileLimitError",
    "CompileLimits",
    "CompiledModule",
    "CompressedBinaryTooLargeError",
    "Ending",
    "EndingKind",
    "GuestLimits",
    "HotSetLimits",
    "LegacyDagError",
    "MemoryExportError",
    "NotBrotliError",
    "Outcome",
    "RootCommand",
    "Runtime",
    "RuntimeLostError",
    "RuntimeStats",
    "ZygoteStats",
    "don_seed",
]

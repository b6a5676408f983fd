"""What the driver hands out: compiled modules, and what there is of processes."""

from __future__ import annotations

from attrs import field, frozen

from innkeeper_wasm.driver.cache import CacheEntry
from innkeeper_wasm.driver.errors import BinaryInvalidError, LegacyDagError

__all__ = ["CompiledModule", "RuntimeStats", "ZygoteStats"]


class CompiledModule:
    """A binary that is admitted and compiled. Made by ``Runtime.compile``, given back to ``Runtime.release``.

    Attributes:
        key: What the compiled module is kept under.
        facts: What is known of it; see :class:`innkeeper_wasm.runtime.facts.BinaryFacts`.
    """

    def __init__(self, key: str, entry: CacheEntry) -> None:
        self.key = key
        self.facts = entry.facts
        self.descriptor = entry.descriptor
        self.users = 0

    @property
    def version_import(self) -> str:
        """The marker that makes it a V2 binary, empty for a legacy DAG."""
        return self.facts.version_import

    @property
    def is_legacy_dag(self) -> bool:
        """Whether it is a legacy DAG, which is not executed."""
        return not self.version_import

    @property
    def unknown_imports(self) -> tuple[str, ...]:
        """Imports that no guest is given; an execution would fail for them."""
        return self.facts.unknown_imports

    def require_runnable(self) -> None:
        """Refuse what could never run.

        Raises:
            LegacyDagError: If it is a legacy DAG.
            BinaryInvalidError: If it imports what no guest is given.
        """
        if self.is_legacy_dag:
            raise LegacyDagError
        if self.unknown_imports:
            raise BinaryInvalidError(
                f"error linking wasm: unknown import: {', '.join(self.unknown_imports)}",
                hint="build the workflow with a CRE SDK that this host knows",
            )


@frozen(kw_only=True)
class ZygoteStats:
    """A zygote.

    Args:
        module: Key of its compiled module.
        pid: Its process id.
        executions: Process ids of its executions.
        private_bytes: What it has dirtied for itself.
        layers: Layers of confinement that are engaged.
    """

    module: str
    pid: int | None
    executions: tuple[int, ...]
    private_bytes: int
    layers: tuple[str, ...]


@frozen(kw_only=True)
class RuntimeStats:
    """The processes of a driver.

    Args:
        root: Process id of the root process, None if there is none.
        wasmtime: Version of the engine, empty until the root process has been started.
        zygotes: The zygotes, those that are being drained too.
    """

    root: int | None
    wasmtime: str = ""
    zygotes: tuple[ZygoteStats, ...] = field(default=())

"""The module type ``wasm``: one process per execution, forked from a guest that is already warm.

Rules of this module:

1. A binary is compiled, checked and classified in a limited child before it is a module. What could never run is
   refused then, with the reason: a legacy binary, and one that imports what no guest is given.
2. One execution is one process, and one :class:`~innkeeper_wasm.calls.GuestCalls` answers it.
3. The request is not changed: what the guest is told is a copy.
"""

from __future__ import annotations

import asyncio
from typing import Final

from innkeeper_sdk.errors import DeadlineExceededError, WorkflowError
from innkeeper_sdk.hooks import Limits
from innkeeper_sdk.module import LimitValue, Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from innkeeper_wasm.calls import GuestCalls, told
from innkeeper_wasm.driver import (
    CompiledModule,
    CompileLimits,
    EndingKind,
    GuestLimits,
    Outcome,
    Runtime,
    RuntimeLostError,
    don_seed,
)

__all__ = ["TEXT_KIND", "GuestFailedError", "WasmModule", "WasmModuleType"]

TEXT_KIND: Final = "wat_file"
"""The kind, in the manifest, whose binaries are WebAssembly's text format."""

# How much of a guest's log is read at all: the reference's module defaults. What is kept of it, and how long a line may
# be, is the execution helper's to say.
_LOG_LINE_BYTES: Final = 1024 * 1024
_LOG_EVENTS: Final = 10_000


class GuestFailedError(WorkflowError):
    """Raised when a guest trapped, exited with an error, crashed, or ended without a result."""

    code = "wasm-guest-failed"


class WorkflowLimits:
    """The limits of one workflow, by the names of the manifest and of the host."""

    def __init__(self, limits: Limits, spec: WorkflowSpec) -> None:
        self._limits = limits
        self._spec = spec

    def __getitem__(self, name: str) -> LimitValue:
        """Return a limit's present value; the operator's settings count from their next use on."""
        return self._limits.get(name, owner=self._spec.owner, workflow_id=self._spec.workflow_id)

    def count(self, name: str) -> int:
        """Return a limit as a whole number."""
        return int(self[name])

    def compile(self) -> CompileLimits:
        """Return what admitting a binary may cost."""
        return CompileLimits(
            compressed_bytes=self.count("PerWorkflow.WASMCompressedBinarySizeLimit"),
            binary_bytes=self.count("PerWorkflow.WASMBinarySizeLimit"),
            wall_seconds=float(self["PerWorkflow.WASMCompileTimeout"]),
            memory_bytes=self.count("PerWorkflow.WASMCompileMemoryLimit"),
        )

    def guest(self) -> GuestLimits:
        """Return what one execution may do."""
        return GuestLimits(
            log_line_bytes=_LOG_LINE_BYTES,
            log_events_don=_LOG_EVENTS,
            log_events_node=_LOG_EVENTS,
            metrics=bool(self["PerWorkflow.UserMetricEnabled"]),
            metric_bytes=self.count("PerWorkflow.UserMetricPayloadLimit"),
            poll_subscriptions=self.count("WASMPollOneoffSubscriptionLimit"),
        )


class WasmModule(Module):
    """One binary, compiled and ready.

    Args:
        runtime: The processes that run it.
        compiled: The binary, given back when the module is closed.
        spec: Its workflow.
        limits: The workflow's limits.
    """

    def __init__(self, runtime: Runtime, compiled: CompiledModule, spec: WorkflowSpec, limits: WorkflowLimits) -> None:
        self._runtime = runtime
        self._compiled: CompiledModule | None = compiled
        self._spec = spec
        self._limits = limits
        self._pool = asyncio.Semaphore(limits.count("PerWorkflow.CapabilityConcurrencyLimit"))

    async def close(self) -> None:
        """Give the binary back; its last user ends its zygotes, which end after their executions."""
        if self._compiled is not None:
            compiled, self._compiled = self._compiled, None
            self._runtime.release(compiled)

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        """Execute one request in a process of its own; see :meth:`innkeeper_sdk.module.Module.execute`."""
        if self._compiled is None:
            raise WorkflowError(f"workflow {self._spec.name}: the module is closed")
        calls = GuestCalls(run.helper, self._pool)
        try:
            outcome = await self._runtime.execute(
                self._compiled,
                request=told(request),
                callbacks=calls,
                don_seed=don_seed(run.execution_id),
                node_seed=run.node_seed,
                deadline=run.deadline,
                prefix_seconds=float(self._limits["PerWorkflow.WASMPrefixTimeout"]),
                memory_bytes=self._limits.count("PerWorkflow.WASMMemoryLimit"),
                limits=self._limits.guest(),
                label=f"workflow {self._spec.name}",
            )
        finally:
            await calls.close()
        return self._result(outcome, calls)

    def _result(self, outcome: Outcome, calls: GuestCalls) -> ExecutionResult:
        if outcome.error is not None:
            text = f"workflow {self._spec.name}: {outcome.error}"
            if outcome.killed_by_deadline:
                raise DeadlineExceededError(text)
            if outcome.kind is EndingKind.LOST:
                raise RuntimeLostError(text)
            raise GuestFailedError(text)
        if calls.result is None:
            raise GuestFailedError(f"workflow {self._spec.name}: the guest ended well but its result is missing")
        return calls.result


class WasmModuleType(ModuleType):
    """The module type ``wasm``.

    Args:
        runtime: The processes that compile and run guests; closed with the module type.
        limits: The limits.
    """

    name = "wasm"

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime = runtime
        self._limits = limits

    async def close(self) -> None:
        """End every process."""
        await self._runtime.close()

    async def load(self, spec: WorkflowSpec, binary: bytes) -> WasmModule:
        """Compile and check a binary; see :meth:`innkeeper_sdk.module.ModuleType.load`."""
        limits = WorkflowLimits(self._limits, spec)
        compiled = await self._runtime.compile(binary, text=spec.kind == TEXT_KIND, limits=limits.compile())
        try:
            compiled.require_runnable()
            return WasmModule(self._runtime, compiled, spec, limits)
        except BaseException:
            self._runtime.release(compiled)
            raise

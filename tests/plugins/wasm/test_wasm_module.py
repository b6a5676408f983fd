"""The module type: what becomes of a binary, and of an execution of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from innkeeper_sdk.errors import DeadlineExceededError, WorkflowError
from innkeeper_sdk.module import LimitValue, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from innkeeper_sdk.proto.values.v1.values_pb2 import Value
from innkeeper_wasm.driver import BinaryInvalidError, LegacyDagError, MemoryExportError, Runtime
from innkeeper_wasm.module import TEXT_KIND, GuestFailedError, WasmModule, WasmModuleType

LIMITS: dict[str, LimitValue] = {
    "PerWorkflow.WASMCompressedBinarySizeLimit": 20_000_000,
    "PerWorkflow.WASMBinarySizeLimit": 100_000_000,
    "PerWorkflow.WASMCompileTimeout": 60.0,
    "PerWorkflow.WASMCompileMemoryLimit": 6_000_000_000,
    "PerWorkflow.WASMPrefixTimeout": 10.0,
    "PerWorkflow.WASMMemoryLimit": 10_000_000,
    "PerWorkflow.CapabilityConcurrencyLimit": 30,
    "PerWorkflow.UserMetricEnabled": False,
    "PerWorkflow.UserMetricPayloadLimit": 4000,
    "WASMPollOneoffSubscriptionLimit": 128,
}
RESULT = ExecutionResult(value=Value(string_value="hello"))


class FixedLimits:
    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
        assert (owner, workflow_id) == ("22" * 20, "11" * 32)
        return LIMITS[name]


class NoHelper:
    execution_id = "33" * 32

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the guest asked for {name}")


def escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def guest(body: str, *, imports: str = "", data: bytes = RESULT.SerializeToString()) -> bytes:
    """Return a guest in text form whose memory begins with ``data``; ``$send`` sends it."""
    return f"""(module
      (import "env" "version_v2_test" (func))
      (import "env" "send_response" (func $send_response (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      {imports}
      (memory (export "memory") 1)
      (data (i32.const 0) "{escaped(data)}")
      (func $send (drop (call $send_response (i32.const 0) (i32.const {len(data)}))))
      (func (export "_start") {body}))""".encode()


def spec(kind: str = TEXT_KIND) -> WorkflowSpec:
    return WorkflowSpec(workflow_id="11" * 32, owner="22" * 20, name="test", tag="", kind=kind)


def run(seconds: float = 30) -> Run:
    return Run(execution_id="33" * 32, attempt=1, deadline=time.monotonic() + seconds, helper=NoHelper())


@pytest_asyncio.fixture
async def types(tmp_path: Path) -> AsyncIterator[WasmModuleType]:
    types = WasmModuleType(Runtime(tmp_path / "modules"), FixedLimits())
    await types.start()
    yield types
    await types.close()


async def execute(types: WasmModuleType, binary: bytes, *, seconds: float = 30) -> ExecutionResult:
    module = await types.load(spec(), binary)
    await module.start()
    try:
        return await module.execute(ExecuteRequest(config=b"c"), run(seconds))
    finally:
        await module.close()


@pytest.mark.parametrize("end", ["(call $exit (i32.const 0))", ""], ids=["exit 0", "return"])
async def test_a_guest_that_ends_well_gives_its_result(types: WasmModuleType, end: str) -> None:
    assert await execute(types, guest(f"(call $send) {end}")) == RESULT


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("(call $exit (i32.const 0))", "could not find response for execution"),
        ("", "could not find response for execution"),
        ("(call $send) (call $exit (i32.const 2))", "exit status 2"),
        ("(call $exit (i32.const 110))", "invariant violation: error marshaling response"),
        ("(call $exit (i32.const 111))", "invariant violation: invalid request to runner"),
        ("(call $exit (i32.const 112))", "error executing runner"),
        ("(call $exit (i32.const 113))", "invariant violation: host errored during sendResponse"),
        ("(call $send) unreachable", "unreachable"),
        ("unreachable", "unreachable"),
    ],
)
async def test_a_guest_that_fails_is_one_clear_error(types: WasmModuleType, body: str, text: str) -> None:
    with pytest.raises(GuestFailedError, match=text) as failed:
        await execute(types, guest(body))
    assert str(failed.value).startswith("workflow test: ")


@pytest.mark.parametrize("body", ["(loop $l (br $l))", "(call $send) (loop $l (br $l))"], ids=["before", "after"])
async def test_a_guest_that_loops_for_ever_ends_at_its_deadline(types: WasmModuleType, body: str) -> None:
    with pytest.raises(DeadlineExceededError, match="deadline exceeded"):
        await execute(types, guest(body), seconds=1)
    assert await execute(types, guest("(call $send)")) == RESULT


async def test_a_guest_that_needs_too_much_memory_is_refused_by_name(types: WasmModuleType) -> None:
    binary = guest("(call $send)").replace(b'"memory") 1)', b'"memory") 10000)')
    with pytest.raises(GuestFailedError, match="memory"):
        await execute(types, binary)


async def test_growing_past_the_limit_fails_in_the_guest(types: WasmModuleType) -> None:
    grow = "(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (call $send)))"
    assert await execute(types, guest(grow)) == RESULT


@pytest.mark.parametrize(
    ("binary", "error", "text"),
    [
        (b'(module (memory (export "memory") 1) (func (export "_start")))', LegacyDagError, "legacy dag"),
        (b'(module (import "env" "version_v2" (func)) (func (export "_start")))', MemoryExportError, '"memory"'),
        (guest("", imports='(import "env" "launch" (func))'), BinaryInvalidError, "unknown import: .*launch"),
        (b"(module", BinaryInvalidError, "error creating wasmtime module"),
    ],
    ids=["legacy", "no memory", "unknown import", "no module"],
)
async def test_a_binary_that_could_never_run_is_refused(
    types: WasmModuleType, binary: bytes, error: type[WorkflowError], text: str
) -> None:
    with pytest.raises(error, match=text):
        await types.load(spec(), binary)


async def test_text_is_taken_only_where_the_kind_says_so(types: WasmModuleType) -> None:
    with pytest.raises(WorkflowError, match="decompress"):
        await types.load(spec("wasm_file"), guest("(call $send)"))


async def test_the_request_is_not_changed(types: WasmModuleType) -> None:
    module: WasmModule = await types.load(spec(), guest("(call $send)"))
    request = ExecuteRequest(config=b"c")
    await module.execute(request, run())
    assert request == ExecuteRequest(config=b"c")
    await module.close()
    await module.close()
    with pytest.raises(WorkflowError, match="closed"):
        await module.execute(request, run())

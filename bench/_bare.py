"""The baseline: a guest run by wasmtime alone, as a straightforward host would.

Compiled once; for each run a new store, linker and instance, with epochs on and the settings of the reference host
(``speed_and_size``, no unwind info). The answers are those that the subject's helper gives. Runs as a process of its
own, one run per line on stdin, so that it does not share a process with the subject; what it prints is measured inside.

Usage: ``python -m bench._bare GUEST.wasm REQUEST_FILE``
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Any

import wasmtime

from bench.answers import answer_call, answer_secrets
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AwaitCapabilitiesRequest,
    AwaitCapabilitiesResponse,
    AwaitSecretsRequest,
    AwaitSecretsResponse,
    CapabilityRequest,
    ExecutionResult,
    GetSecretsRequest,
)

_PAGE_TICKS = 1_000_000  # epochs that never come: the baseline pays for checking them, nobody ends it


class BareRun:
    """One compiled guest, run as often as asked."""

    def __init__(self, path: Path) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        config.cranelift_opt_level = "speed_and_size"
        config.native_unwind_info = False
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module(self.engine, path.read_bytes())

    def run(self, request: bytes) -> ExecutionResult:
        """Run the guest once and return its result."""
        store = wasmtime.Store(self.engine)
        store.set_epoch_deadline(_PAGE_TICKS)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["wasi", base64.b64encode(request).decode()]
        store.set_wasi(wasi)
        linker = wasmtime.Linker(self.engine)
        linker.define_wasi()
        state = _HostState()
        for item in self.module.imports:
            if item.module == "env":
                function = getattr(state, item.name or "", state.version)
                assert isinstance(item.type, wasmtime.FuncType)
                linker.define_func("env", item.name or "", item.type, function, access_caller=True)
        instance = linker.instantiate(store, self.module)
        start = instance.exports(store)["_start"]
        try:
            start(store)  # type: ignore[operator]  # a function, by the ABI
        except wasmtime.ExitTrap as end:
            if end.code != 0:
                raise
        assert state.result is not None
        assert state.result.HasField("value"), state.result.error
        return state.result


class _HostState:
    def __init__(self) -> None:
        self.result: ExecutionResult | None = None
        self.logs: list[str] = []
        self.pending: dict[int, Any] = {}
        self.secrets: dict[int, Any] = {}

    def version(self, caller: wasmtime.Caller) -> None:
        del caller

    def send_response(self, caller: wasmtime.Caller, pointer: int, length: int) -> int:
        self.result = ExecutionResult.FromString(_read(caller, pointer, length))
        return 0

    def call_capability(self, caller: wasmtime.Caller, pointer: int, length: int) -> int:
        request = CapabilityRequest.FromString(_read(caller, pointer, length))
        self.pending[request.callback_id] = answer_call(request)
        return 0

    def await_capabilities(self, caller: wasmtime.Caller, pointer: int, length: int, to: int, most: int) -> int:
        request = AwaitCapabilitiesRequest.FromString(_read(caller, pointer, length))
        response = AwaitCapabilitiesResponse(responses={i: self.pending.pop(i) for i in request.ids})
        return _write(caller, response.SerializeToString(), to, most)

    def get_secrets(self, caller: wasmtime.Caller, pointer: int, length: int, to: int, most: int) -> int:
        del to, most
        request = GetSecretsRequest.FromString(_read(caller, pointer, length))
        self.secrets[request.callback_id] = answer_secrets(request)
        return 0

    def await_secrets(self, caller: wasmtime.Caller, pointer: int, length: int, to: int, most: int) -> int:
        request = AwaitSecretsRequest.FromString(_read(caller, pointer, length))
        response = AwaitSecretsResponse()
        for call_id in request.ids:
            response.responses[call_id].responses.extend(self.secrets.pop(call_id))
        return _write(caller, response.SerializeToString(), to, most)

    def log(self, caller: wasmtime.Caller, pointer: int, length: int) -> None:
        self.logs.append(_read(caller, pointer, length).decode())

    def switch_modes(self, caller: wasmtime.Caller, mode: int) -> None:
        del caller, mode

    def random_seed(self, caller: wasmtime.Caller, mode: int) -> int:
        del caller
        return mode

    def now(self, caller: wasmtime.Caller, pointer: int) -> int:
        _write(caller, time.time_ns().to_bytes(8, "little"), pointer, 8)
        return 0


def _read(caller: wasmtime.Caller, pointer: int, length: int) -> bytes:
    memory = caller["memory"]
    assert isinstance(memory, wasmtime.Memory)
    return bytes(memory.read(caller, pointer, pointer + length))


def _write(caller: wasmtime.Caller, data: bytes, pointer: int, most: int) -> int:
    assert len(data) <= most
    memory = caller["memory"]
    assert isinstance(memory, wasmtime.Memory)
    memory.write(caller, data, pointer)
    return len(data)


def main() -> None:
    """Serve runs: a line in, the seconds of one run out."""
    guest, request = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    bare = BareRun(guest)
    bare.run(request)
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        bare.run(request)
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()

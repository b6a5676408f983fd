"""What the yardsticks share: guests, the baseline's process, and how a figure is printed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Self

from google.protobuf.any_pb2 import Any

from bench.answers import answer_call, answer_secrets
from innkeeper.capabilities.limits import LimitTable, declare_limits
from innkeeper_sdk.manifest import read_manifest
from innkeeper_sdk.module import LimitValue, Run, UserMetric, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    ExecuteRequest,
    GetSecretsRequest,
    SecretError,
    SecretResponse,
    Trigger,
)
from innkeeper_wasm.driver import Runtime
from innkeeper_wasm.module import WasmModule, WasmModuleType

__all__ = [
    "Baseline",
    "BenchHelper",
    "ManifestLimits",
    "build_go_guest",
    "build_guest",
    "execute",
    "print_figures",
    "subject",
    "trigger_request",
]

ROOT = Path(__file__).parents[1]
BUILD = ROOT / ".build" / "bench"

# An execution id is 64 hexadecimal digits; the yardsticks need one, not a particular one.
EXECUTION_ID = "4a5f3722853fe70fe0531e671569213ce0fc8b5b7f1e5e6b7d6bfc8ca199be03"


# PerWorkflow.ExecutionResponseLimit: what the engine lets a guest answer, and be answered at once.
RESPONSE_LIMIT = 100_000


def build_guest(name: str) -> Path:
    """Build ``bench/guests/NAME`` with ``innkeeper workflow build`` and return the binary's path."""
    BUILD.mkdir(parents=True, exist_ok=True)
    binary = BUILD / f"{name}.wasm"
    command = [
        str(Path(sys.executable).parent / "innkeeper"),
        "workflow",
        "build",
        f"bench/guests/{name}",
        "-o",
        str(binary),
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return binary


def build_go_guest() -> Path | None:
    """Build ``bench/guests/go`` and return the binary's path, or None where Go is not at hand."""
    go = shutil.which("go")
    if go is None:
        return None
    BUILD.mkdir(parents=True, exist_ok=True)
    binary = BUILD / "go.wasm"
    environ = {**os.environ, "GOOS": "wasip1", "GOARCH": "wasm", "CGO_ENABLED": "0"}
    flags = ["-trimpath", "-ldflags=-buildid= -w -s", "-buildvcs=false"]
    subprocess.run([go, "build", *flags, "-o", str(binary), "."], cwd=ROOT / "bench/guests/go", env=environ, check=True)
    return binary


def trigger_request() -> ExecuteRequest:
    """Return a request that fires the guest's first trigger, as the engine makes it; no guest reads its payload."""
    return ExecuteRequest(config=b"{}", trigger=Trigger(id=0, payload=Any()), max_response_size=RESPONSE_LIMIT)


class BenchHelper:
    """An execution helper that answers at once, with the baseline's answers."""

    execution_id = EXECUTION_ID

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer a call."""
        return answer_call(request)

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        """Answer secrets."""
        return answer_secrets(request)

    def reserve_secrets(self, request: GetSecretsRequest) -> AbstractAsyncContextManager[Sequence[SecretError | None]]:
        """Refuse: no module that is measured brings secrets by itself."""
        raise NotImplementedError("a guest in the open asks with get_secrets; see answer_secrets for the answers")

    async def node_time(self) -> int:
        """Return the time."""
        return time.time_ns()

    async def don_time(self) -> int:
        """Return the time."""
        return time.time_ns()

    def emit_log(self, message: str) -> None:
        """Take a line."""

    def emit_metric(self, metric: UserMetric) -> None:
        """Take a metric."""


async def execute(module: WasmModule, request: ExecuteRequest) -> float:
    """Execute once; return the seconds it took. A guest that failed would be quick, so its result must be a value."""
    begin = time.perf_counter()
    result = await module.execute(request, _run())
    seconds = time.perf_counter() - begin
    assert result.HasField("value"), result.error
    return seconds


def _run() -> Run:
    return Run(execution_id=EXECUTION_ID, attempt=1, deadline=time.monotonic() + 60, helper=BenchHelper())


class ManifestLimits:
    """The defaults of the provider's manifest, and those of the host that it asks for."""

    def __init__(self) -> None:
        manifest = read_manifest(ROOT / "plugins/wasm/src/innkeeper_wasm/innkeeper-provider.yaml")
        self._table = LimitTable(declare_limits([manifest]).limits)

    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
        """Return a limit's default."""
        return self._table.get(name, owner=owner, workflow_id=workflow_id)


@asynccontextmanager
async def subject(guest: Path) -> AsyncIterator[Callable[[], Awaitable[WasmModule]]]:
    """Yield what loads a guest as the host does, with all isolation engaged; closing its module ends its zygote."""
    with tempfile.TemporaryDirectory() as cache:
        types = WasmModuleType(Runtime(Path(cache) / "modules"), ManifestLimits())
        spec = WorkflowSpec(workflow_id="11" * 32, owner="22" * 20, name=guest.stem, tag="", kind="wasm_file")
        binary = guest.read_bytes()  # noqa: ASYNC240 - nothing else runs yet
        await types.start()
        try:
            yield lambda: types.load(spec, binary)
        finally:
            await types.close()


class Baseline:
    """The baseline's process: a run for a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def start(cls, binary: Path, request: ExecuteRequest) -> AsyncIterator[Self]:
        """Start it and wait until the guest is compiled."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(request.SerializeToString())
            file.flush()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench._bare",
                str(binary),
                file.name,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            baseline = cls(process)
            try:
                assert await baseline._line() == "ready"
                yield baseline
            finally:
                assert process.stdin is not None
                process.stdin.close()
                await process.wait()

    async def run(self) -> float:
        """Run the guest once; return the seconds it took, measured inside."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return float(await self._line())

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


def print_figures(**figures: object) -> None:
    """Print the figures as one JSON object on one line."""
    print(json.dumps(figures))

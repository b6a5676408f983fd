"""The program as the host runs it: guard, launcher, LOOP wire, enclave and guests, all of them real."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from innkeeper.loop.plans import HelperPlan, ProcessPlan, RestartPolicy
from innkeeper.loop.states import ProcessState
from innkeeper_confidential_workflows.process.capability import CAPABILITY_ID
from innkeeper_confidential_workflows.process.main import check
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
    ProvidedTeesResponse,
)
from innkeeper_confidential_workflows.protocol.measurements import FirstMeasurement
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
)
from innkeeper_sdk.errors import ConfigError, ProviderFailedError
from tests.host.loop.loop_world import World as Processes
from tests.host.loop.loop_world import open_world, wait_gone
from tests.plugins.confidential_workflows.enclave.enclave_world import (
    OWNER,
    WORKFLOW,
    Guest,
    Host,
    descendants,
    directories,
    hello,
    value_result,
    work,
)

COMMANDS = Path(sys.executable).parent


class Of(Capability):
    """A capability of the host, answered by the host that is played."""

    def __init__(self, id_: str, host: Host) -> None:
        self._info = CapabilityInfo(id_, CapabilityType.ACTION)
        self._host = host

    @property
    def info(self) -> CapabilityInfo:
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        return await self._host.execute(request)


class Program:
    """The program, its host and its registry."""

    def __init__(self, processes: Processes, root: Path) -> None:
        self.processes = processes
        self.root = root
        self.host = Host(trust=FirstMeasurement(root / "trust" / "pin.json", logging.getLogger("tests.program")))
        for id_ in ("confidential-relay@1.0.0", "artifacts@1.0.0"):
            processes.book.peers[id_] = Of(id_, self.host)

    def plan(self, config: str = '{"backend": "simulated", "region": "eu-1"}', **changes: str) -> ProcessPlan:
        data, runtime = directories(self.root)
        environ = {
            "LANG": "C.UTF-8",
            "INNKEEPER_PROVIDER": "confidential-workflows",
            "INNKEEPER_ENVIRONMENT": "development",
            "INNKEEPER_DATA_DIR": str(data),
            "INNKEEPER_RUNTIME_DIR": str(runtime),
            **changes,
        }
        return ProcessPlan(
            provider_id="confidential-workflows",
            name="confidential-workflows",
            executable=COMMANDS / "innkeeper-confidential-workflows",
            environ={**environ, "INNKEEPER_PROCESS": "confidential-workflows"},
            capabilities=(CAPABILITY_ID,),
            config=config,
            helpers=(
                HelperPlan(
                    "launcher",
                    COMMANDS / "innkeeper-enclave-launcher",
                    {**environ, "INNKEEPER_PROCESS": "launcher"},
                ),
            ),
            restart=RestartPolicy(backoff_first_seconds=0.01, budget=10),
            socket_dir=self.processes.sockets,
        )

    async def call(self, method: str, message: Any, kind: type[Any], deadline: float | None = None) -> Any:
        payload = AnyMessage()
        payload.Pack(message)
        request = CapabilityRequest(RequestMetadata(WORKFLOW, OWNER), CAPABILITY_ID, method, payload, deadline=deadline)
        response = await self.processes.book.capabilities[CAPABILITY_ID].execute(request)
        answer = kind()
        assert response.payload.Unpack(answer)
        return answer

    async def run(self, request: ConfidentialWorkflowRequest) -> Any:
        response = await self.call("Execute", request, ConfidentialWorkflowResponse)
        assert response.execution_result == response.sdk_execution_result.SerializeToString(deterministic=True)
        return response.sdk_execution_result


@pytest.fixture
async def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Program]:
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    async with open_world(tmp_path) as processes:
        yield Program(processes, tmp_path)


async def test_a_workflow_runs_over_the_real_wire_with_a_secret_and_a_capability(program: Program) -> None:
    from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import CapabilityRequest as Call

    program.host.secrets[("main", "k")] = "canary"
    call = Call(id="a@1.0.0", method="m", callback_id=2)
    guest = Guest().secrets(("", "k")).capability(call).answer(value_result("done"))
    async with program.processes.running(program.plan()) as supervisor:
        pid = supervisor.parts()[0].pid
        assert await program.run(work(program.host.add(guest.binary()))) == value_result("done")
        tees = await program.call("ProvidedTees", Empty(), ProvidedTeesResponse)
        assert list(tees.tee[0].regions) == ["eu-1"]
        with pytest.raises(CapabilityError, match="method Other not found"):
            await program.call("Other", Empty(), Empty)
        below = descendants(int(supervisor.parts()[1].pid or 0))
        assert pid is not None
        assert len(below) >= 3
    wait_gone(pid, *below)
    assert [type(body).__name__ for body in program.host.bodies] == ["SecretsBody", "CapabilityBody", "ResultBody"]
    assert all(b"canary" not in request.payload.value for request in program.host.requests)
    assert list((program.root / "run").iterdir()) == []


async def test_an_error_of_the_enclave_arrives_with_its_four_parts(program: Program) -> None:
    async with program.processes.running(program.plan()):
        binary = program.host.add(hello())
        program.host.artifacts[next(iter(program.host.artifacts))] = b"\0asm another"
        with pytest.raises(CapabilityError, match="binary hash mismatch") as caught:
            await program.run(work(binary))
        assert caught.value.error_code is ErrorCode.FailedPrecondition


@pytest.mark.parametrize("victim", ["process", "launcher", "monitor"])
async def test_whatever_dies_the_next_generation_has_an_enclave_of_its_own(program: Program, victim: str) -> None:
    async with program.processes.running(program.plan()) as supervisor:
        process, launcher = (int(part.pid or 0) for part in supervisor.parts())
        below = descendants(launcher)
        binary = program.host.add(hello())
        assert await program.run(work(binary, 1)) == value_result("hello")
        os.kill({"process": process, "launcher": launcher, "monitor": below[0]}[victim], signal.SIGKILL)
        await program.processes.until_state(supervisor, ProcessState.READY, generation=2)
        wait_gone(process, launcher, *below)
        assert await program.run(work(binary, 2)) == value_result("hello")


async def test_in_production_it_does_not_start_and_says_why(program: Program) -> None:
    supervisor = program.processes.supervisor(program.plan(INNKEEPER_ENVIRONMENT="production"))
    try:
        with pytest.raises(ProviderFailedError):
            async with asyncio.timeout(30):
                await supervisor.start()
    finally:
        await supervisor.close()
    assert program.host.requests == []


class Context:
    def __init__(self, environment: str, **config: str) -> None:
        self.environment, self.config = environment, config


def test_the_simulated_backend_is_taken_in_development() -> None:
    check(Context("development", backend="simulated"))  # type: ignore[arg-type] # the part that is used


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (Context("development"), "backend"),
        (Context("development", backend="nitro"), "nitro"),
        (Context("production", backend="simulated"), "environment: development"),
        (Context("", backend="simulated"), "environment: development"),
    ],
)
def test_what_is_no_simulation_in_development_is_refused(context: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check(context)

"""The control server: a private socket, errors that keep their class, clients that come and go."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from innkeeper.control import server as server_module
from innkeeper.control.server import ControlServer
from innkeeper.loop.guard import Guard
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.errors import (
    ConfigError,
    ConflictError,
    HostError,
    HostUnreachableError,
    LimitExceededError,
    NotFoundError,
)
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb
from innkeeper_sdk.proto.innkeeper.control.v1.control_pb2_grpc import ControlServicer

DEADLINE = 10.0
MAX_REQUEST = 1 << 20


class Servicer(ControlServicer):
    """Answers in every way that a host can."""

    def __init__(self) -> None:
        self.following = 0
        self.started = asyncio.Event()
        self.ended = asyncio.Event()

    async def GetHost(self, request: pb.GetHostRequest, context: Any) -> pb.Host:
        return pb.Host(name="test", pid=os.getpid())

    async def GetWorkflow(self, request: pb.WorkflowSelector, context: Any) -> pb.Workflow:
        if request.workflow == "twice":
            raise ConflictError("the name fits two", path="p", expected="one", actual="two", hint="give --owner")
        raise NotFoundError("é" * 20_000)

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Any) -> pb.ListWorkflowsResponse:
        raise RuntimeError("the secret is s3cr3t")

    async def DeployWorkflow(self, request: pb.DeployWorkflowRequest, context: Any) -> pb.Workflow:
        return pb.Workflow(name=str(len(request.artifacts.binary)))

    async def ListExecutions(self, request: pb.ListExecutionsRequest, context: Any) -> pb.ListExecutionsResponse:
        return pb.ListExecutionsResponse(executions=[pb.Execution(result=b"x" * (6 << 20))])

    async def StreamLogs(self, request: pb.StreamLogsRequest, context: Any) -> AsyncIterator[pb.LogLine]:
        yield pb.LogLine(message="one")
        if not request.follow:
            raise HostError("the log ends here")
        self.following += 1
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.following -= 1
            self.ended.set()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as path:
        yield Path(path)


@asynccontextmanager
async def serving(socket: Path, **options: Any) -> AsyncIterator[tuple[Servicer, ControlServer]]:
    servicer = Servicer()
    guard = Guard(logging.getLogger("test.guard"))
    server = ControlServer(
        servicer,
        socket=socket,
        max_request_bytes=MAX_REQUEST,
        guard=guard,
        logger=logging.getLogger("test.control"),
        **options,
    )
    await server.start()
    try:
        yield servicer, server
    finally:
        await server.stop(0)


@pytest.fixture
async def servicer(folder: Path) -> AsyncIterator[Servicer]:
    """Return what answers on ``control.sock``."""
    async with serving(folder / "control.sock") as (started, _):
        yield started


@pytest.fixture
def client(folder: Path, servicer: Servicer) -> Iterator[ControlClient]:
    """Return a client of the server."""
    with ControlClient(folder / "control.sock") as connected:
        yield connected


async def test_the_socket_is_its_users_alone(folder: Path, servicer: Servicer) -> None:
    mode = (folder / "control.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_a_client_knows_whose_host_it_speaks_to(client: ControlClient) -> None:
    assert client.peer.pid == os.getpid()
    assert (await asyncio.to_thread(client.host)).name == "test"


async def test_an_error_arrives_whole(client: ControlClient) -> None:
    with pytest.raises(ConflictError) as caught:
        await asyncio.to_thread(client.workflow, pb.WorkflowSelector(workflow="twice"))
    assert caught.value.to_dict() == {
        "code": "conflict",
        "message": "the name fits two",
        "path": "p",
        "expected": "one",
        "actual": "two",
        "hint": "give --owner",
    }


async def test_an_error_too_long_for_metadata_arrives_cut(client: ControlClient) -> None:
    with pytest.raises(NotFoundError, match=r"ééé \[…\]$"):
        await asyncio.to_thread(client.workflow, pb.WorkflowSelector(workflow="none"))


async def test_a_fault_of_the_host_is_logged_there_and_told_to_nobody(
    client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HostError, match="the host failed at this request") as caught:
        await asyncio.to_thread(client.workflows)
    assert "s3cr3t" not in str(caught.value)
    assert "RuntimeError" in caplog.text
    assert caplog.records[-1].__dict__["method"] == "ListWorkflows"


async def test_a_stream_can_fail_after_its_first_messages(client: ControlClient) -> None:
    def read() -> None:
        lines = client.logs(pb.WorkflowSelector())
        assert next(lines).message == "one"
        with pytest.raises(HostError, match="the log ends here"):
            next(lines)

    await asyncio.to_thread(read)


async def test_a_method_that_the_host_lacks_says_so(client: ControlClient) -> None:
    with pytest.raises(HostError, match="of another version"):
        await asyncio.to_thread(client._call, "OfTheFuture", pb.GetHostRequest(), pb.Host)


async def test_a_request_up_to_the_limit_arrives_and_a_larger_one_is_refused(client: ControlClient) -> None:
    fits = pb.WorkflowArtifacts(binary=b"x" * (MAX_REQUEST - 100))
    assert (await asyncio.to_thread(client.deploy, fits)).name == str(MAX_REQUEST - 100)
    with pytest.raises(LimitExceededError, match="larger than the host takes"):
        await asyncio.to_thread(client.deploy, pb.WorkflowArtifacts(binary=b"x" * (MAX_REQUEST + 1)))


async def test_an_answer_may_be_larger_than_grpcs_own_limit(client: ControlClient) -> None:
    (execution,) = await asyncio.to_thread(client.executions)
    assert len(execution.result) == 6 << 20


async def test_a_client_that_goes_cancels_its_call(client: ControlClient, servicer: Servicer) -> None:
    lines = client.logs(pb.WorkflowSelector(), follow=True)
    with closing(lines):
        await asyncio.to_thread(next, lines)
        async with asyncio.timeout(DEADLINE):
            await servicer.started.wait()
        assert servicer.following == 1
    async with asyncio.timeout(DEADLINE):
        await servicer.ended.wait()
    assert servicer.following == 0


async def test_many_clients_are_served_at_once(folder: Path, servicer: Servicer) -> None:
    clients = [ControlClient(folder / "control.sock") for _ in range(16)]
    try:
        streams = [client.logs(pb.WorkflowSelector(), follow=True) for client in clients]
        firsts = await asyncio.gather(*(asyncio.to_thread(next, stream) for stream in streams))
        assert [line.message for line in firsts] == ["one"] * 16
        hosts = await asyncio.gather(*(asyncio.to_thread(client.host) for client in clients * 4))
        assert len(hosts) == 64
        for stream in streams:
            stream.close()
    finally:
        for client in clients:
            client.close()


async def test_streams_leave_room_for_other_calls_and_give_their_places_back(folder: Path) -> None:
    async with serving(folder / "control.sock", max_streams=3) as (servicer, _):
        with ControlClient(folder / "control.sock") as client:
            streams = [client.logs(pb.WorkflowSelector(), follow=True) for _ in range(4)]
            for stream in streams[:3]:
                await asyncio.to_thread(next, stream)
            with pytest.raises(LimitExceededError, match="at most 3 calls that stream at once"):
                await asyncio.to_thread(next, streams[3])
            assert (await asyncio.to_thread(client.host)).name == "test"
            servicer.ended.clear()
            streams[0].close()
            async with asyncio.timeout(DEADLINE):
                await servicer.ended.wait()
            for _ in range(8):  # a stream that ends by itself leaves no place taken either
                with pytest.raises(HostError, match="the log ends here"):
                    await asyncio.to_thread(list, client.logs(pb.WorkflowSelector()))
            again = client.logs(pb.WorkflowSelector(), follow=True)
            assert (await asyncio.to_thread(next, again)).message == "one"
            for stream in (*streams, again):
                stream.close()


async def test_a_server_has_more_places_than_streams_may_take() -> None:
    assert server_module._STREAMS <= server_module._CALLS // 2


async def test_a_stopped_server_ends_streams_and_leaves_no_socket(folder: Path) -> None:
    async with serving(folder / "control.sock") as (servicer, server):
        with ControlClient(folder / "control.sock") as client:
            lines = client.logs(pb.WorkflowSelector(), follow=True)
            await asyncio.to_thread(next, lines)
            await server.stop(0)
            with pytest.raises(HostUnreachableError):
                await asyncio.to_thread(next, lines)
            assert servicer.following == 0
    assert not (folder / "control.sock").exists()
    with pytest.raises(HostUnreachableError, match="no host is running"):
        ControlClient(folder / "control.sock")


async def test_a_socket_that_was_left_is_replaced(folder: Path) -> None:
    (folder / "control.sock").write_text("left")
    async with serving(folder / "control.sock"):
        with ControlClient(folder / "control.sock") as client:
            assert (await asyncio.to_thread(client.host)).name == "test"


async def test_unusual_characters_in_the_path_are_no_obstacle(folder: Path) -> None:
    odd = folder / "a b%20?#é"
    odd.mkdir()
    async with serving(odd / "control.sock"):
        with ControlClient(odd / "control.sock") as client:
            assert (await asyncio.to_thread(client.host)).name == "test"


async def test_a_path_that_is_too_long_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        async with serving(folder / ("x" * 100) / "control.sock"):
            pass


async def test_a_directory_that_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(HostError, match="cannot be bound"):
        async with serving(folder / "missing" / "control.sock"):
            pass

"""The program of a plugin, as a real process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo
from innkeeper_sdk.proto.goplugin.broker_pb2_grpc import GRPCBrokerStub
from innkeeper_sdk.proto.goplugin.controller_pb2 import Empty as PluginEmpty
from innkeeper_sdk.proto.goplugin.controller_pb2_grpc import GRPCControllerStub
from innkeeper_sdk.proto.goplugin.stdio_pb2_grpc import GRPCStdioStub
from innkeeper_sdk.proto.loop.service_pb2_grpc import ServiceStub

PRELUDE = """
import asyncio, os, subprocess, time
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import StringValue
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityResponse, CapabilityType
from innkeeper_sdk.loop import serve

def text(value):
    payload = Any()
    payload.Pack(StringValue(value=value))
    return CapabilityResponse(payload=payload)

class Probe(Capability):
    def __init__(self, context, id="probe@1.0.0"):
        self.context, self.id = context, id
        self.note(f"made {id}")

    def note(self, what):
        if self.context.data_dir:
            with open(self.context.data_dir / "notes", "a") as notes:
                notes.write(what + "\\n")

    @property
    def info(self):
        return CapabilityInfo(id=self.id, type=CapabilityType.COMBINED, description="for tests")

    async def start(self):
        self.note(f"started {self.id}")

    async def close(self):
        self.note(f"closed {self.id}")

    async def execute(self, request):
        match request.method:
            case "Echo":
                return CapabilityResponse(payload=request.payload)
            case "Config":
                return text(repr(dict(self.context.config)))
            case "Block":
                time.sleep(30)
            case "Pid":
                return text(str(os.getpid()))
"""
THREE_LINES = PRELUDE + "serve(lambda context: [Probe(context)])\n"


def payload(text: str) -> AnyMessage:
    message = AnyMessage()
    message.Pack(StringValue(value=text))
    return message


def request(method: str, text: str = "") -> pb.CapabilityRequest:
    return pb.CapabilityRequest(metadata=pb.RequestMetadata(workflow_id="a" * 64), payload=payload(text), method=method)


async def execute(channel: grpc.aio.Channel, method: str, text: str = "") -> str:
    answers = [answer async for answer in rpc.ExecutableStub(channel).Execute(request(method, text), timeout=10)]
    assert len(answers) == 1
    assert not answers[0].error
    value = StringValue()
    answers[0].payload.Unpack(value)
    return value.value


def start(script: str, tmp_path: Path, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    path = tmp_path / "plugin.py"
    path.write_text(script)
    return subprocess.run([sys.executable, path], env=env, capture_output=True, timeout=20, check=False)


def health(channel: grpc.aio.Channel, name: bytes) -> Any:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    return check(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=5)


def gone(pid: int, seconds: float) -> bool:
    """Whether a process that is nobody's child here ends within a time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


# Before the line.


@pytest.mark.parametrize("value", [None, "", "f4df86d3"])
def test_without_the_cookie_it_says_what_it_is_and_exits_with_1(tmp_path: Path, value: str | None) -> None:
    env = {} if value is None else {"CL_PLUGIN_STANDARD_CAPABILITIES_MAGIC_COOKIE": value}

    done = start(THREE_LINES, tmp_path, env)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"is a plugin of" in done.stderr


def test_even_what_was_printed_before_stays_off_stdout_without_the_cookie(tmp_path: Path) -> None:
    done = start("print('hello')\n" + THREE_LINES, tmp_path, {})

    assert done.stdout == b""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PLUGIN_CLIENT_CERT", "-----BEGIN CERTIFICATE-----", "AutoMTLS"),
        ("PLUGIN_UNIX_SOCKET_GROUP", "staff", "private"),
        ("PLUGIN_UNIX_SOCKET_DIR", "/nonexistent/directory", "directory"),
        ("PLUGIN_UNIX_SOCKET_DIR", "/proc/self", "directory"),
        ("INNKEEPER_ENVIRONMENT", "staging", "production or development"),
        ("INNKEEPER_HELPER_LAUNCHER_FD", "99", "INNKEEPER_HELPER_LAUNCHER_FD"),
    ],
)
async def test_what_it_cannot_serve_is_refused_before_the_line(host: Any, name: str, value: str, said: str) -> None:
    await host.start(THREE_LINES, **{name: value})

    assert await host.wait() == 1
    assert host.line == ""
    await asyncio.wait_for(host._tasks[0], 5)
    assert said in "".join(host.errors)
    assert "Traceback" not in "".join(host.errors)


async def test_a_socket_path_that_cannot_be_told_is_refused(host: Any, tmp_path: Path) -> None:
    odd = tmp_path / "a|b"
    odd.mkdir()

    await host.start(THREE_LINES, TMPDIR=str(odd))

    assert await host.wait() == 1
    assert host.line == ""
    assert not list(odd.iterdir())


async def test_a_socket_path_that_is_too_long_is_refused(host: Any, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()

    await host.start(THREE_LINES, TMPDIR=str(deep))

    assert await host.wait() == 1
    assert host.line == ""
    await asyncio.wait_for(host._tasks[0], 5)
    assert "too long" in "".join(host.errors)
    assert not list(deep.iterdir())


# The line.


async def test_the_line_is_that_of_a_loop(host: Any) -> None:
    await host.start(THREE_LINES)

    fields = host.line.split("|")
    assert host.line.endswith("|grpc|\n")
    assert fields[:3] == ["1", "0", "unix"]
    assert len(fields) == 6
    assert stat.S_ISSOCK(os.stat(fields[3]).st_mode)


async def test_the_socket_is_in_a_directory_that_only_its_user_may_enter(host: Any) -> None:
    await host.start(THREE_LINES)

    directory = Path(host.line.split("|")[3]).parent
    assert directory.parent == host.sockets
    assert directory.stat().st_mode & 0o777 == 0o700


async def test_whether_it_multiplexes_is_answered_when_asked(host: Any) -> None:
    await host.start(THREE_LINES, PLUGIN_MULTIPLEX_GRPC="true")

    assert host.line.endswith("|grpc||false\n")


async def test_versions_that_are_none_are_told_and_change_nothing(host: Any) -> None:
    await host.start(THREE_LINES, PLUGIN_PROTOCOL_VERSIONS="x,7, 0,-1")

    assert host.line.startswith("1|0|unix|")
    await host.connect()
    await host.shut_down()
    assert sum("which is no version" in line for line in host.errors) == 2


async def test_nothing_but_the_line_ever_reaches_stdout(host: Any) -> None:
    noisy = """
def provide(context):
    print("printed", flush=True)
    os.write(1, b"written\\n")
    subprocess.run(["/bin/echo", "echoed"], check=True)
    return [Probe(context)]
serve(provide)
"""
    await host.run("print('imported')\n" + PRELUDE + noisy)

    assert await host.shut_down() == 0
    assert await host.process.stdout.read() == b""
    said = "".join(host.errors)
    assert all(word in said for word in ("imported", "printed", "written", "echoed"))


# The main connection.


async def test_health_is_that_of_the_plugin(host: Any) -> None:
    await host.start(THREE_LINES)
    await host.connect()

    assert await health(host.channel, b"plugin") == b"\x08\x01"
    assert await health(host.channel, b"") == b"\x08\x01"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await health(host.channel, b"other")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_capability_that_blocks_does_not_stop_health(host: Any) -> None:
    await host.run(THREE_LINES)
    call = rpc.ExecutableStub(host.registry.added["probe@1.0.0"]).Execute(request("Block"), timeout=10)
    reading = asyncio.ensure_future(call.read())

    for _ in range(5):
        assert await health(host.channel, b"plugin") == b"\x08\x01"

    assert not reading.done()
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_streams_that_are_opened_once_are_refused_twice(host: Any) -> None:
    await host.run(THREE_LINES)

    for again in (GRPCBrokerStub(host.channel).StartStream(iter(())), GRPCStdioStub(host.channel).StreamStdio(Empty())):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await again.read()
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await health(host.channel, b"plugin") == b"\x08\x01"


async def test_the_service_says_whether_it_is_initialised(host: Any) -> None:
    await host.start(THREE_LINES, INNKEEPER_PROCESS="probing")
    await host.connect()
    service = ServiceStub(host.channel)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.Ready(Empty(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNKNOWN
    report = await service.HealthReport(Empty(), timeout=5)
    assert dict(report.healthReport) == {"probing": "the plugin is not initialised"}

    await host.initialise()

    await service.Ready(Empty(), timeout=5)
    assert dict((await service.HealthReport(Empty(), timeout=5)).healthReport) == {"probing": ""}
    with pytest.raises(grpc.aio.AioRpcError) as unnamed:
        await service.Name(Empty(), timeout=5)
    assert unnamed.value.code() is grpc.StatusCode.UNIMPLEMENTED


# Initialise.


async def test_it_registers_its_capabilities_and_they_answer(host: Any) -> None:
    await host.run(THREE_LINES, config='{"rate": 3}')

    info = host.registry.infos["probe@1.0.0"]
    assert (info.capability_type, info.description, info.isLocal) == (5, "for tests", True)
    assert host.registry.kinds["probe@1.0.0"] == 3
    infos = await rpc.StandardCapabilitiesStub(host.channel).Infos(Empty(), timeout=5)
    assert [entry.id for entry in infos.infos] == ["probe@1.0.0"]
    channel = host.registry.added["probe@1.0.0"]
    assert await execute(channel, "Echo", "hello") == "hello"
    assert await execute(channel, "Config") == "{'rate': 3}"


async def test_infos_before_initialise_are_refused(host: Any) -> None:
    await host.start(THREE_LINES)
    await host.connect()

    with pytest.raises(grpc.aio.AioRpcError, match="not initialised"):
        await rpc.StandardCapabilitiesStub(host.channel).Infos(Empty(), timeout=5)


@pytest.mark.parametrize("name", ["telemetry", "capRegistry", "org_resolver"])
async def test_a_service_that_is_not_there_fails_initialise(host: Any, name: str) -> None:
    await host.start(THREE_LINES)
    await host.connect()

    with pytest.raises(grpc.aio.AioRpcError, match=f"service {name} cannot be reached") as failed:
        await host.initialise(**{f"{name}_id": 0})

    assert failed.value.code() is grpc.StatusCode.UNKNOWN
    await host.initialise()
    assert "probe@1.0.0" in host.registry.added


async def test_a_service_that_is_not_on_a_unix_socket_is_not_dialled(host: Any) -> None:
    await host.start(THREE_LINES)
    await host.connect()
    host.announce(ConnInfo(service_id=700, network="tcp", address="127.0.0.1:1"))

    with pytest.raises(grpc.aio.AioRpcError, match="not served on a unix socket"):
        await host.initialise(keystore_id=700)


@pytest.mark.parametrize("config", ["[]", "null", '{"a": 1, "a": 2}', '{"key": "hunter2"', '{"a": NaN}'])
async def test_a_configuration_that_is_no_object_fails_initialise_and_is_not_quoted(host: Any, config: str) -> None:
    await host.start(THREE_LINES)
    await host.connect()

    with pytest.raises(grpc.aio.AioRpcError, match="the configuration of the plugin") as failed:
        await host.initialise(config)

    assert "hunter2" not in str(failed.value)


async def test_a_plugin_that_raises_fails_initialise_without_its_text(host: Any) -> None:
    script = PRELUDE + "def provide(context):\n    raise ValueError('hunter2')\nserve(provide)\n"
    await host.start(script)
    await host.connect()

    with pytest.raises(
        grpc.aio.AioRpcError, match=r"did not make its capabilities: ValueError at plugin.py:"
    ) as failed:
        await host.initialise()

    assert await host.shut_down() == 0
    assert "hunter2" not in str(failed.value)
    assert "hunter2" not in "".join(host.errors)


@pytest.mark.parametrize("made", ["[]", "[object()]", "None", "[Probe(context), Probe(context)]"])
async def test_what_are_no_capabilities_fail_initialise(host: Any, made: str) -> None:
    await host.start(PRELUDE + f"serve(lambda context: {made})\n")
    await host.connect()

    with pytest.raises(grpc.aio.AioRpcError, match="the plugin made"):
        await host.initialise()


async def test_provide_may_be_asynchronous(host: Any) -> None:
    await host.run(PRELUDE + "async def provide(context):\n    return [Probe(context)]\nserve(provide)\n")

    assert "probe@1.0.0" in host.registry.added


def notes(host: Any) -> list[str]:
    path: Path = host.directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


TWO = PRELUDE + "serve(lambda context: [Probe(context), Probe(context, 'other@1.0.0')])\n"


async def test_a_second_initialise_closes_what_the_first_made(host: Any) -> None:
    await host.run(THREE_LINES, INNKEEPER_DATA_DIR=str(host.directory))
    first = host.registry.added["probe@1.0.0"]

    await host.initialise()

    assert notes(host) == [
        "made probe@1.0.0",
        "started probe@1.0.0",
        "closed probe@1.0.0",
        "made probe@1.0.0",
        "started probe@1.0.0",
    ]
    assert [call for call, _ in host.registry.calls] == ["Add", "Remove", "Add"]
    with pytest.raises(grpc.aio.AioRpcError):
        await execute(first, "Echo")
    assert await execute(host.registry.added["probe@1.0.0"], "Echo", "x") == "x"


async def test_a_capability_that_does_not_start_leaves_nothing(host: Any) -> None:
    failing = """
class Failing(Probe):
    async def start(self):
        raise OSError("hunter2")
serve(lambda context: [Probe(context), Failing(context, "failing@1.0.0")])
"""
    await host.start(PRELUDE + failing, INNKEEPER_DATA_DIR=str(host.directory))
    await host.connect()

    with pytest.raises(grpc.aio.AioRpcError, match=r"failing@1.0.0 did not start: OSError at"):
        await host.initialise()

    assert notes(host)[-2:] == ["closed failing@1.0.0", "closed probe@1.0.0"]
    assert host.registry.calls == []


async def test_a_capability_that_the_host_refuses_fails_initialise_with_the_hosts_text(host: Any) -> None:
    host.registry.refusal = "capability probe@1.0.0 is not this provider's"
    await host.start(TWO, INNKEEPER_DATA_DIR=str(host.directory))
    await host.connect()

    with pytest.raises(grpc.aio.AioRpcError, match=r"probe@1.0.0 is not this provider's"):
        await host.initialise()

    assert [note.split()[0] for note in notes(host)].count("closed") == 2
    directory = Path(host.line.split("|")[3]).parent
    assert [entry.name for entry in directory.iterdir()] == ["main.sock"]


async def test_close_takes_everything_down_and_initialise_brings_it_back(host: Any) -> None:
    await host.run(THREE_LINES, INNKEEPER_DATA_DIR=str(host.directory))

    await ServiceStub(host.channel).Close(Empty(), timeout=5)

    assert notes(host)[-1] == "closed probe@1.0.0"
    assert host.registry.added == {}
    with pytest.raises(grpc.aio.AioRpcError):
        await ServiceStub(host.channel).Ready(Empty(), timeout=5)
    await host.initialise()
    assert "probe@1.0.0" in host.registry.added


async def test_initialising_again_and_again_leaks_nothing(host: Any, until: Any) -> None:
    await host.run(THREE_LINES)
    process = Path(f"/proc/{host.process.pid}")
    await host.initialise()

    def kept() -> tuple[int, int]:
        sockets = Path(host.line.split("|")[3]).parent
        return len(list((process / "fd").iterdir())), len(list(sockets.iterdir()))

    fds, sockets = kept()
    for _ in range(10):
        await host.initialise()

    # gRPC closes what it no longer needs a moment later.
    await until(lambda: kept() <= (fds, sockets))
    # The threads are those of the main connection's pool, and gRPC's own.
    assert len(list((process / "task").iterdir())) < 40


# The registry that it is given.

NESTED = (
    PRELUDE
    + """
from innkeeper_sdk.capability import CapabilityRequest, RequestMetadata
from innkeeper_sdk.errors import InnkeeperError

class Nested(Probe):
    async def start(self):
        self.greeting = await self.ask("greeter@1.0.0", "in start")

    async def ask(self, id, value):
        payload = Any()
        payload.Pack(StringValue(value=value))
        metadata = RequestMetadata(workflow_id="a" * 64, workflow_owner="b" * 40)
        request = CapabilityRequest(metadata=metadata, capability_id=id, method="Greet", payload=payload)
        try:
            answer = (await self.context.registry.execute(request)).payload
        except InnkeeperError as error:
            return f"{type(error).__name__}: {error}"
        value = StringValue()
        answer.Unpack(value)
        return value.value

    async def execute(self, request):
        value = StringValue()
        request.payload.Unpack(value)
        match request.method:
            case "Started":
                return text(self.greeting)
            case "Ask":
                return text(await self.ask(value.value, "now"))
            case "List":
                return text(",".join(info.id for info in await self.context.registry.list()))
            case "Key":
                return text(repr(await self.context.host_public_key()))

serve(lambda context: [Nested(context)])
"""
)


class Greeter(rpc.BaseCapabilityServicer, rpc.ExecutableServicer):
    """A capability of the played host."""

    async def Info(self, request: Empty, context: Any) -> pb.CapabilityInfoReply:
        return pb.CapabilityInfoReply(id="greeter@1.0.0", capability_type=pb.CAPABILITY_TYPE_ACTION)

    async def Execute(self, request: pb.CapabilityRequest, context: Any) -> Any:  # type: ignore[override] # grpc.aio takes it
        value = StringValue()
        request.payload.Unpack(value)
        owner = dict(context.invocation_metadata())["x-chainlink-owner"]
        await context.write(pb.CapabilityResponse(payload=payload(f"{request.method} {value.value} {owner[:2]}")))

    async def RegisterToWorkflow(self, request: Any, context: Any) -> Empty:
        return Empty()

    async def UnregisterFromWorkflow(self, request: Any, context: Any) -> Empty:
        return Empty()


def greeter(server: grpc.aio.Server) -> None:
    rpc.add_BaseCapabilityServicer_to_server(Greeter(), server)
    rpc.add_ExecutableServicer_to_server(Greeter(), server)


async def test_it_calls_other_capabilities_through_its_host_in_initialise_too(host: Any) -> None:
    host.registry.offered["greeter@1.0.0"] = greeter
    host.registry.peer_id = bytes(range(32))
    await host.run(NESTED)
    channel = host.registry.added["probe@1.0.0"]

    assert await execute(channel, "Started") == "Greet in start bb"
    assert await execute(channel, "Ask", "greeter@1.0.0") == "Greet now bb"
    assert await execute(channel, "Ask", "other@1.0.0") == "NotFoundError: no capability other@1.0.0 in sight"
    assert await execute(channel, "List") == "greeter@1.0.0"
    assert await execute(channel, "Key") == repr(bytes(range(32)))
    assert host.registry.calls.count(("GetExecutable", "greeter@1.0.0")) == 1


# The end.


async def test_shutdown_is_answered_and_closes_everything(host: Any) -> None:
    await host.run(THREE_LINES, INNKEEPER_DATA_DIR=str(host.directory))

    assert await host.shut_down() == 0

    assert notes(host)[-1] == "closed probe@1.0.0"
    assert host.registry.calls[-1] == ("Remove", "probe@1.0.0")
    assert not [entry for entry in host.sockets.iterdir() if entry.name.startswith("plugin-")]


async def test_a_capability_that_blocks_does_not_survive_shutdown(host: Any) -> None:
    await host.run(THREE_LINES)
    call = rpc.ExecutableStub(host.registry.added["probe@1.0.0"]).Execute(request("Block"))
    reading = asyncio.ensure_future(call.read())
    await asyncio.wait([reading], timeout=0.2)

    assert await host.shut_down() == 1

    assert not [entry for entry in host.sockets.iterdir() if entry.name.startswith("plugin-")]
    await asyncio.gather(reading, return_exceptions=True)


async def test_the_end_of_the_hosts_stream_ends_it(host: Any) -> None:
    await host.run(THREE_LINES, INNKEEPER_DATA_DIR=str(host.directory))

    host.stream.cancel()

    assert await host.wait() == 0
    assert notes(host)[-1] == "closed probe@1.0.0"


async def test_sigterm_ends_it_cleanly(host: Any) -> None:
    await host.run(THREE_LINES, INNKEEPER_DATA_DIR=str(host.directory))

    host.process.send_signal(signal.SIGTERM)

    assert await host.wait() == 0
    assert notes(host)[-1] == "closed probe@1.0.0"
    assert not [entry for entry in host.sockets.iterdir() if entry.name.startswith("plugin-")]


async def test_sigint_is_ignored(host: Any) -> None:
    await host.run(THREE_LINES)

    host.process.send_signal(signal.SIGINT)

    assert await execute(host.registry.added["probe@1.0.0"], "Echo", "still here") == "still here"
    assert host.process.returncode is None


async def test_an_initialise_under_way_does_not_hold_up_the_end(host: Any, until: Any) -> None:
    script = PRELUDE + "async def provide(context):\n    Probe(context)\n    await asyncio.sleep(60)\nserve(provide)\n"
    await host.start(script, INNKEEPER_DATA_DIR=str(host.directory))
    await host.connect()
    initialising = asyncio.ensure_future(host.initialise())
    await until(lambda: bool(notes(host)))

    await GRPCControllerStub(host.channel).Shutdown(PluginEmpty(), timeout=5)

    assert await host.wait() == 0
    with pytest.raises(grpc.aio.AioRpcError):
        await initialising


MIDDLE = """
import os, subprocess, sys, time
plugin = subprocess.Popen([sys.executable, sys.argv[1]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
line = plugin.stdout.readline().decode()
if sys.argv[2] == "stream":
    import grpc
    from innkeeper_sdk.proto.goplugin.broker_pb2_grpc import GRPCBrokerStub
    from innkeeper_sdk.loop.channels import CHANNEL_OPTIONS
    import queue
    channel = grpc.insecure_channel("unix:" + line.split("|")[3], options=CHANNEL_OPTIONS)
    grpc.channel_ready_future(channel).result(10)
    stream = GRPCBrokerStub(channel).StartStream(iter(queue.Queue().get, None))
print(plugin.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["stream", "nothing"])
def test_a_host_that_is_killed_takes_its_plugin_along(tmp_path: Path, how: str) -> None:
    middle, plugin, sockets = tmp_path / "middle.py", tmp_path / "plugin.py", tmp_path / "s"
    middle.write_text(MIDDLE)
    plugin.write_text(THREE_LINES)
    sockets.mkdir()
    env = {"CL_PLUGIN_STANDARD_CAPABILITIES_MAGIC_COOKIE": "f4df86d3-3552-4231-8206-be0d245b6c67"}
    host = subprocess.Popen(
        [sys.executable, middle, plugin, how], env=env | {"TMPDIR": str(sockets)}, stdout=subprocess.PIPE
    )
    try:
        assert host.stdout is not None
        pid = int(host.stdout.readline())
    finally:
        host.kill()
        host.wait()
        host.stdout.close()

    assert gone(pid, 5.0)
    assert list(sockets.iterdir()) == []

"""A host, played with raw gRPC stubs: what a plugin of this SDK meets, and nothing of this SDK's own wire."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
import pytest
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo
from innkeeper_sdk.proto.goplugin.broker_pb2_grpc import GRPCBrokerStub
from innkeeper_sdk.proto.goplugin.controller_pb2 import Empty as PluginEmpty
from innkeeper_sdk.proto.goplugin.controller_pb2_grpc import GRPCControllerStub
from innkeeper_sdk.proto.goplugin.stdio_pb2_grpc import GRPCStdioStub
from innkeeper_sdk.proto.loop import capabilities_registry_pb2 as registry_pb
from innkeeper_sdk.proto.loop.capabilities_registry_pb2_grpc import (
    CapabilitiesRegistryServicer,
    add_CapabilitiesRegistryServicer_to_server,
)

COOKIE = {"CL_PLUGIN_STANDARD_CAPABILITIES_MAGIC_COOKIE": "f4df86d3-3552-4231-8206-be0d245b6c67"}
# In the order in which a Go plugin dials them.
SERVICES = (
    "telemetry",
    "keyValueStore",
    "keystore",
    "capRegistry",
    "error_log",
    "pipeline_runner",
    "relayer_set",
    "oracle_factory",
    "gateway_connector",
    "org_resolver",
)
SECONDS = 20.0
Register = Callable[[grpc.aio.Server], None]


class Connections(Protocol):
    """Serves and dials by number."""

    async def serve(self, register: Register) -> int: ...

    async def dial(self, number: int) -> grpc.aio.Channel: ...


class RawRegistry(CapabilitiesRegistryServicer):
    """Answers as a node's registry does, and takes note of what it was asked."""

    def __init__(self, host: Connections) -> None:
        self.host = host
        self.calls: list[tuple[str, str]] = []
        self.added: dict[str, grpc.aio.Channel] = {}
        self.kinds: dict[str, int] = {}
        self.infos: dict[str, pb.CapabilityInfoReply] = {}
        self.offered: dict[str, Register] = {}
        self.peer_id = b""
        self.refusal = ""

    async def Add(self, request: registry_pb.AddRequest, context: Any) -> Empty:
        channel = await self.host.dial(request.capabilityID)
        info = await rpc.BaseCapabilityStub(channel).Info(Empty(), timeout=SECONDS)
        self.calls.append(("Add", info.id))
        if self.refusal:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refusal)
        self.added[info.id] = channel
        self.kinds[info.id] = request.type
        self.infos[info.id] = info
        return Empty()

    async def Remove(self, request: registry_pb.RemoveRequest, context: Any) -> Empty:
        self.calls.append(("Remove", request.id))
        self.added.pop(request.id)
        return Empty()

    async def LocalNode(self, request: Empty, context: Any) -> registry_pb.NodeReply:
        self.calls.append(("LocalNode", ""))
        return registry_pb.NodeReply(peerID=self.peer_id)

    async def GetExecutable(self, request: registry_pb.GetExecutableRequest, context: Any) -> Any:
        self.calls.append(("GetExecutable", request.id))
        if request.id not in self.offered:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no capability {request.id} in sight")
        return registry_pb.GetExecutableReply(capabilityID=await self.host.serve(self.offered[request.id]))

    async def List(self, request: Empty, context: Any) -> registry_pb.ListReply:
        return registry_pb.ListReply(
            capabilityID=[await self.host.serve(register) for register in self.offered.values()]
        )

    async def _unimplemented(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not played")

    NodeByPeerID = ConfigForCapability = DONsForCapability = DONByID = Get = GetTrigger = _unimplemented


class RawHost:
    """Starts one plugin and speaks to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sockets = directory / "s"
        self.sockets.mkdir(mode=0o700)
        self.registry = RawRegistry(self)
        self.process: asyncio.subprocess.Process
        self.channel: grpc.aio.Channel
        self.stream: Any
        self.line = ""
        self.errors: list[str] = []
        self.dialled: list[int] = []
        self._announced: dict[int, asyncio.Future[ConnInfo]] = {}
        self._numbers = itertools.count(1)
        self._outbox: asyncio.Queue[ConnInfo | None] = asyncio.Queue()
        self._servers: list[grpc.aio.Server] = []
        self._channels: list[grpc.aio.Channel] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self, script: str, *, pass_fds: tuple[int, ...] = (), **env: str) -> None:
        """Start a plugin, and read its line."""
        path = self.directory / "plugin.py"
        path.write_text(script)
        coverage = {name: value for name, value in os.environ.items() if name.startswith("COV")}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(path),
            env=COOKIE | {"PLUGIN_PROTOCOL_VERSIONS": "0", "TMPDIR": str(self.sockets)} | coverage | env,
            pass_fds=pass_fds,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._tasks.append(asyncio.create_task(self._read_errors()))
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            self.line = (await self.process.stdout.readline()).decode()

    async def connect(self) -> None:
        """Do what a Go host does as soon as it has the line."""
        self.channel = self._channel(self.line.split("|")[3])
        self.stream = GRPCBrokerStub(self.channel).StartStream(self._outgoing())
        self._tasks.append(asyncio.create_task(self._receive()))
        stdio = GRPCStdioStub(self.channel).StreamStdio(Empty())
        self._tasks.append(asyncio.create_task(self._drain(stdio)))

    async def run(self, script: str, *, config: str = "", **env: str) -> None:
        """Start a plugin, connect to it and initialise it."""
        await self.start(script, **env)
        await self.connect()
        await self.initialise(config)

    async def initialise(self, config: str = "", **numbers: int) -> None:
        """Serve the ten services anew, and initialise the plugin."""
        ids = {f"{name}_id": await self._service(name) for name in SERVICES if f"{name}_id" not in numbers}
        request = pb.InitialiseRequest(config=config, **ids, **numbers)
        await rpc.StandardCapabilitiesStub(self.channel).Initialise(request, timeout=SECONDS)

    async def serve(self, register: Register) -> int:
        """Serve something under a new number."""
        number = next(self._numbers)
        path = self.sockets / f"h{number}"
        server = grpc.aio.server()
        register(server)
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        self._servers.append(server)
        self.announce(ConnInfo(service_id=number, network="unix", address=str(path)))
        return number

    def announce(self, info: ConnInfo) -> None:
        """Send one broker message."""
        self._outbox.put_nowait(info)

    async def dial(self, number: int) -> grpc.aio.Channel:
        """Connect to what the plugin serves."""
        self.dialled.append(number)
        async with asyncio.timeout(SECONDS):
            info = await self._slot(number)
        return self._channel(info.address)

    async def shut_down(self) -> int:
        """Ask for the end; return the exit code."""
        await GRPCControllerStub(self.channel).Shutdown(PluginEmpty(), timeout=SECONDS)
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the process to end; return its exit code."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    async def stop_servers(self) -> None:
        """Stop all that this side serves, as if it had crashed."""
        for server in self._servers:
            await server.stop(None)
        self._servers.clear()

    async def close(self) -> None:
        """End everything, the plugin by force if need be."""
        self._outbox.put_nowait(None)
        for task in self._tasks[1:]:
            task.cancel()
        for channel in self._channels:
            await channel.close()
        await self.stop_servers()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _service(self, name: str) -> int:
        if name != "capRegistry":
            return await self.serve(lambda server: None)
        return await self.serve(lambda server: add_CapabilitiesRegistryServicer_to_server(self.registry, server))

    def _channel(self, path: str) -> grpc.aio.Channel:
        options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(f"unix:{path}", options=options)
        self._channels.append(channel)
        return channel

    def _slot(self, number: int) -> asyncio.Future[ConnInfo]:
        return self._announced.setdefault(number, asyncio.get_running_loop().create_future())

    async def _outgoing(self) -> AsyncIterator[ConnInfo]:
        while (info := await self._outbox.get()) is not None:
            yield info

    async def _receive(self) -> None:
        async for info in self.stream:
            self._slot(info.service_id).set_result(info)

    async def _drain(self, stdio: Any) -> None:
        async for _ in stdio:
            pass

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.errors.append(line.decode())


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[RawHost]:
    """A host that has started nothing yet."""
    played = RawHost(tmp_path)
    yield played
    await played.close()


Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Wait until something holds that nobody announces, with a deadline."""

    async def wait(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def raw_registry() -> type[RawRegistry]:
    """The registry of the played host, to be played without one."""
    return RawRegistry

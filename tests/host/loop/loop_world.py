"""Processes to supervise: programs that are written into a folder, and a supervisor around one of them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, evolve, field
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper.loop.guard import Guard
from innkeeper.loop.guard_process import end
from innkeeper.loop.plans import HelperPlan, ProcessPlan, RestartPolicy
from innkeeper.loop.states import ProcessState
from innkeeper.loop.supervisor import Supervisor
from innkeeper_sdk.capability import (
    Capability,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    RequestMetadata,
)
from innkeeper_sdk.errors import ConflictError, NotFoundError

DEADLINE: Final = 20.0
ECHO: Final = "echo@1.0.0"
KEY: Final = bytes(range(32))

# A capability that does what it is asked to; its method is the order.
ECHO_PLUGIN: Final = """
import asyncio, json, os, signal, subprocess, sys, time
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import StringValue
from innkeeper_sdk.capability import *
from innkeeper_sdk.loop import serve

class Echo(Capability):
    def __init__(self, context, id="echo@1.0.0"):
        self.context, self.id = context, id

    @property
    def info(self):
        return CapabilityInfo(self.id, CapabilityType.COMBINED)

    async def execute(self, request):
        text = StringValue.FromString(request.payload.value).value
        answer = await getattr(self, request.method)(text)
        payload = Any()
        payload.Pack(StringValue(value=str(answer)))
        return CapabilityResponse(payload)

    async def echo(self, text):
        return text

    async def environ(self, text):
        return json.dumps(dict(os.environ))

    async def config(self, text):
        return json.dumps(dict(self.context.config))

    async def key(self, text):
        return (await self.context.host_public_key()).hex()

    async def sleep(self, text):
        await asyncio.sleep(float(text))

    async def exit(self, text):
        os._exit(int(text))

    async def freeze(self, text):
        os.kill(os.getpid(), signal.SIGSTOP)

    async def spawn(self, text):
        return subprocess.Popen(["/bin/sh", "-c", text]).pid

    async def call(self, text):
        payload = Any()
        payload.Pack(StringValue(value="hello"))
        request = CapabilityRequest(RequestMetadata("w" * 64, "o" * 40), text, "echo", payload)
        try:
            answer = await self.context.registry.execute(request)
        except Exception as error:
            return f"{type(error).__name__} {error}"
        return StringValue.FromString(answer.payload.value).value

    async def list(self, text):
        return ",".join(info.id for info in await self.context.registry.list())

    async def helper(self, text):
        import socket
        with socket.socket(fileno=os.dup(self.context.helpers["aide"])) as sock:
            sock.send(text.encode())
            return await asyncio.to_thread(lambda: sock.recv(1000).decode())

serve(lambda context: [Echo(context)])
"""

# Answers each message on its socket with what it knows of itself.
AIDE: Final = """
import json, os, socket, sys
print("aide is here", flush=True)
sock = socket.socket(fileno=int(os.environ["INNKEEPER_HELPER_AIDE_FD"]))
while message := sock.recv(1000):
    if message == b"exit":
        os._exit(7)
    open_files = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    sock.send(json.dumps([message.decode(), os.getpid(), os.getsid(0), open_files, dict(os.environ)]).encode()[:1000])
"""


def payload(text: str) -> AnyMessage:
    """Return a text as a payload."""
    packed = AnyMessage()
    packed.Pack(StringValue(value=text))
    return packed


def request(method: str, text: str = "") -> CapabilityRequest:
    """Return a call of the capability above."""
    return CapabilityRequest(RequestMetadata("w" * 64, "o" * 40), ECHO, method, payload(text))


def text_of(response: CapabilityResponse) -> str:
    """Return the text of an answer."""
    return StringValue.FromString(response.payload.value).value


class Upper(Capability):
    """A capability of the host that plugins may call."""

    def __init__(self, capability_id: str, kind: CapabilityType = CapabilityType.ACTION) -> None:
        self._info = CapabilityInfo(capability_id, kind)
        self.calls = 0

    @property
    def info(self) -> CapabilityInfo:
        """Return what it is."""
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer in capitals."""
        self.calls += 1
        return CapabilityResponse(payload(StringValue.FromString(request.payload.value).value.upper()))


@define
class Book:
    """A registry: what is registered, and what plugins may use."""

    capabilities: dict[str, Capability] = field(factory=dict)
    peers: dict[str, Capability] = field(factory=dict)
    history: list[str] = field(factory=list)

    def register(self, capability: Capability, info: CapabilityInfo) -> None:
        """Register a capability."""
        if info.id in self.capabilities:
            raise ConflictError(f"{info.id} is registered already")
        self.capabilities[info.id] = capability
        self.history.append(f"+{info.id}")

    def unregister(self, capability_id: str) -> None:
        """Take one away."""
        if self.capabilities.pop(capability_id, None) is not None:
            self.history.append(f"-{capability_id}")

    def get(self, capability_id: str) -> Capability:
        """Return what a plugin asks for."""
        if capability_id not in self.peers:
            raise NotFoundError(f"capability {capability_id} not found")
        return self.peers[capability_id]

    def list(self) -> list[CapabilityInfo]:
        """Return what a plugin may see."""
        return [capability.info for _, capability in sorted(self.peers.items())]


@define(eq=False)
class World:
    """A guard, a registry, and programs to run."""

    folder: Path
    sockets: Path
    guard: Guard
    book: Book = field(factory=Book)
    changes: asyncio.Event = field(factory=asyncio.Event)
    _programs: int = 0

    def program(self, source: str) -> Path:
        """Write a program and return it; it needs nothing of its environment."""
        self._programs += 1
        path = self.folder / f"program-{self._programs}"
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        path.chmod(0o700)
        return path

    def plan(self, source: str = ECHO_PLUGIN, *, aide: str | None = None, **changes: Any) -> ProcessPlan:
        """Return a plan for a program, with short deadlines."""
        environ = {"LANG": "C.UTF-8", "INNKEEPER_PROVIDER": "toy", "INNKEEPER_PROCESS": "main"}
        policy = RestartPolicy(
            start_seconds=DEADLINE,
            ping_seconds=0.5,
            ping_interval_seconds=0.2,
            ping_failures=2,
            stop_seconds=3,
            backoff_first_seconds=0.01,
            backoff_most_seconds=0.1,
        )
        plan = ProcessPlan(
            provider_id="toy",
            name="main",
            executable=self.program(source),
            environ=environ,
            capabilities=(ECHO,),
            config="{}",
            helpers=() if aide is None else (HelperPlan("aide", self.program(aide), environ),),
            restart=policy,
            socket_dir=self.sockets,
        )
        restart = changes.pop("restart", {})
        return evolve(plan, restart=evolve(policy, **restart), **changes)

    def supervisor(self, plan: ProcessPlan) -> Supervisor:
        """Return a supervisor."""
        return Supervisor(
            plan,
            guard=self.guard,
            registrar=self.book,
            peers=self.book,
            host_public_key=KEY,
            app_id="test",
            logger=logging.getLogger("innkeeper.test.loop"),
            changed=self.changes.set,
        )

    @asynccontextmanager
    async def running(self, plan: ProcessPlan) -> AsyncIterator[Supervisor]:
        """Start a supervisor, and close it in the end."""
        supervisor = self.supervisor(plan)
        try:
            await supervisor.start()
            yield supervisor
        finally:
            await supervisor.close()

    async def call(self, method: str, text: str = "") -> str:
        """Call the capability above."""
        return text_of(await self.book.capabilities[ECHO].execute(request(method, text)))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at after each change of a part."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.changes.clear()
                await self.changes.wait()

    async def until_state(self, supervisor: Supervisor, state: ProcessState, generation: int = 1) -> None:
        """Wait until a process of at least some generation is in a state."""

        def reached() -> bool:
            part = supervisor.parts()[0]
            return part.state is state and (part.generation or 0) >= generation

        await self.until(reached)


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    """Return a world; the runtime directory is short, since it is part of a socket's path."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as runtime:
        guard = Guard(logging.getLogger("innkeeper.test.guard"))
        guard.start()
        try:
            yield World(folder, Path(runtime) / "s", guard)
        finally:
            await guard.close()
            # What a test that failed has left running.
            await asyncio.to_thread(end, [], "=".join(guard.mark).encode(), DEADLINE)


def wait_gone(*pids: int) -> None:
    """Wait until processes have ended; whoever is their parent may not have waited for them."""
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([pidfd], [], [], DEADLINE)[0], f"process {pid} lives on"
        os.close(pidfd)


def alive(pid: int) -> bool:
    """Return whether a process runs."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def environ_of(text: str) -> Mapping[str, str]:
    """Return the environment that a plugin has told."""
    return dict(json.loads(text))

"""Process parts of providers: real processes, behind the real registry, kept by real supervisors."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper.capabilities.callers import Operator, ProviderCaller
from innkeeper.capabilities.limits import LimitTable
from innkeeper.capabilities.registry import Registry
from innkeeper.config.plugins import load_plugins
from innkeeper.config.settings import load_settings, prepare
from innkeeper.keys import SigningKey
from innkeeper.loop.guard import Guard
from innkeeper.providers.catalog import build_catalog
from innkeeper.providers.discovery import discover
from innkeeper.providers.manager import Providers
from innkeeper.providers.parts import PartRow
from innkeeper.providers.states import ProviderState, ProviderStatusRow
from innkeeper.providers.supervising import Supervising
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest, ErrorCode, RequestMetadata
from innkeeper_sdk.errors import NotFoundError, ProviderFailedError

DEADLINE = 30.0
KEY = SigningKey(Ed25519PrivateKey.generate())
ECHO, RELAY, BOTH = "echo@1.0.0", "relay@1.0.0", "both@1.0.0"

# What its capability does is the method's name.
WORKER = """
import json, os, sys
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import StringValue
from innkeeper_sdk.capability import *
from innkeeper_sdk.loop import serve

class Echo(Capability):
    def __init__(self, context, id_):
        self.context, self.id = context, id_

    @property
    def info(self):
        return CapabilityInfo(self.id, CapabilityType.ACTION)

    async def execute(self, request):
        text = StringValue.FromString(request.payload.value).value
        answer = Any()
        answer.Pack(StringValue(value=await getattr(self, request.method)(text)))
        return CapabilityResponse(answer)

    async def echo(self, text):
        return text

    async def environ(self, text):
        return json.dumps(dict(os.environ))

    async def config(self, text):
        return json.dumps(dict(self.context.config))

    async def key(self, text):
        return (await self.context.host_public_key()).hex()

    async def exit(self, text):
        os._exit(3)

    async def aide(self, text):
        import asyncio, socket
        with socket.socket(fileno=os.dup(self.context.helpers["aide"])) as sock:
            sock.send(text.encode())
            return await asyncio.to_thread(lambda: sock.recv(65536).decode())

    async def call(self, text):
        payload = Any()
        payload.Pack(StringValue(value="hello"))
        try:
            request = CapabilityRequest(RequestMetadata("", ""), text, "echo", payload)
            answer = await self.context.registry.execute(request)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return StringValue.FromString(answer.payload.value).value

"""
SERVE_ECHO = WORKER + 'serve(lambda context: [Echo(context, "echo@1.0.0")])\n'
SERVE_BOTH = WORKER + 'serve(lambda context: [Echo(context, "both@1.0.0")])\n'
# Calls its own host part before it has anything to offer itself.
SERVE_EAGER = (
    WORKER
    + """
async def provide(context):
    echo = Echo(context, "echo@1.0.0")
    said = await echo.call("relay@1.0.0")
    assert said == "host part of probe says hello", said
    return [echo]

serve(provide)
"""
)
AIDE = """
import json, os, socket
sock = socket.socket(fileno=int(os.environ["INNKEEPER_HELPER_AIDE_FD"]))
while message := sock.recv(1000):
    if message == b"exit":
        os._exit(7)
    sock.send(json.dumps(dict(os.environ)).encode())
"""

HOST_PART = """
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import StringValue
from innkeeper_sdk import hookimpl
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityResponse, CapabilityType
from innkeeper_sdk.module import ModuleType

EVENTS = []
CONTEXTS = []


class Part:
    def __init__(self, name):
        self.part = name

    async def start(self):
        EVENTS.append(f"start {self.part}")

    async def close(self):
        EVENTS.append(f"close {self.part}")


class Plain(Part, ModuleType):
    @property
    def name(self):
        return "plain"

    async def load(self, spec, binary):
        raise NotImplementedError


class Relay(Part, Capability):
    @property
    def info(self):
        return CapabilityInfo("relay@1.0.0", CapabilityType.ACTION)

    async def execute(self, request):
        text = StringValue.FromString(request.payload.value).value
        answer = Any()
        answer.Pack(StringValue(value=f"host part of probe says {text}"))
        return CapabilityResponse(answer)


@hookimpl
def innkeeper_modules(context):
    CONTEXTS.append(context)
    return [Plain("module")]


@hookimpl
def innkeeper_capabilities(context):
    return [Relay("capability")]


@hookimpl
def innkeeper_services(context):
    return [Part("service")]
"""


def action(id_: str, where: str, *methods: str) -> dict[str, Any]:
    return {"id": id_, "type": "action", "where": where.split(), "methods": {method: {} for method in methods}}


METHODS = ("echo", "environ", "config", "key", "exit", "aide", "call")
LOOP = action(ECHO, "loop", *METHODS)
WORKS = {"worker": {"executable": "ik-worker", "capabilities": [ECHO]}}
WHOLE: dict[str, Any] = {
    "modules": [{"name": "plain"}],
    "services": ["beat"],
    "capabilities": [LOOP, action(RELAY, "host", "echo")],
    "processes": WORKS,
}
# The restarts of a test wait for nothing.
QUICK = "restart: {backoff_first_seconds: 0.01, backoff_most_seconds: 0.05}"


@define(eq=False)
class House:
    """A host that has nothing but providers."""

    folder: Path
    site: Any
    registry: Registry
    guard: Guard
    settings: Any
    commands: Path
    providers: Providers | None = None
    rows: list[ProviderStatusRow] = field(factory=list)
    changed: asyncio.Event = field(factory=asyncio.Event)

    def command(self, name: str, source: str) -> None:
        """Put a program where commands are."""
        path = self.commands / name
        path.write_text(f"#!{sys.executable}\n{source}")
        path.chmod(0o755)

    def make(self, entries: str, *, environ: dict[str, str] | None = None) -> Providers:
        """Return the providers of the entries."""
        file = self.folder / "plugins.yaml"
        file.write_text(f"plugins: {{any: [{entries}]}}")
        catalog = build_catalog(load_plugins([file]), discover([str(self.site.path)]))
        supervise = Supervising(guard=self.guard, registry=self.registry, host_public_key=KEY.public_key, app_id="test")
        self.providers = Providers(
            catalog,
            settings=self.settings,
            registry=self.registry,
            limits=LimitTable(catalog.limits),
            host_key=KEY,
            supervise=supervise,
            logger=logging.getLogger("innkeeper.test.providers"),
            environ=environ or {},
            commands=self.commands,
        )
        self.providers.subscribe(self._seen)
        return self.providers

    async def start(self, entries: str = f"{{package: ik-probe, {QUICK}}}", **options: Any) -> Providers:
        """Start the providers of the entries."""
        providers = self.make(entries, **options)
        await providers.start()
        return providers

    def row(self, id_: str = "probe") -> ProviderStatusRow:
        """Return how a provider is."""
        assert self.providers is not None
        return next(row for row in self.providers.statuses() if row.id == id_)

    def part(self, name: str = "worker", id_: str = "probe") -> PartRow:
        """Return how a part is."""
        return next(part for part in self.row(id_).parts if part.name == name)

    def pid(self, name: str = "worker") -> int:
        """Return the process of a part."""
        pid = self.part(name).pid
        assert pid is not None
        return pid

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, which a change of a provider tells."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def call(self, method: str, text: str = "", *, id_: str = ECHO, caller: str = "probe") -> str:
        """Call a capability as a provider."""
        payload = AnyMessage()
        payload.Pack(StringValue(value=text))
        request = CapabilityRequest(RequestMetadata("", ""), id_, method, payload)
        answer = await self.registry.call(ProviderCaller(caller), request)
        return StringValue.FromString(answer.payload.value).value

    def events(self) -> list[str]:
        """Return what has happened to the host part of the provider."""
        events: list[str] = sys.modules["ik_probe.plugin"].EVENTS
        return events

    def _seen(self, row: ProviderStatusRow) -> None:
        self.rows.append(row)
        self.changed.set()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def settings() -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as folder:
        places = {key: f"{folder}/{key[0]}" for key in ("data_dir", "cache_dir", "runtime_dir")}
        made = load_settings(environ={}, flags={**places, "environment": "development"})
        prepare(made)
        yield made


@pytest.fixture
async def house(tmp_path: Path, site: Any, settings: Any) -> AsyncIterator[House]:
    """Return a host of providers whose processes end with it."""
    guard = Guard(logging.getLogger("innkeeper.test.guard"))
    guard.start()
    commands = tmp_path / "bin"
    commands.mkdir()
    made = House(tmp_path, site, Registry(), guard, settings, commands)
    made.command("ik-worker", SERVE_ECHO)
    yield made
    if made.providers is not None:
        await made.providers.close()
    await guard.close()
    assert list((settings.socket_dir / "loop").glob("*")) == []


async def test_a_provider_is_ready_when_all_its_parts_are(house: House) -> None:
    house.command("ik-worker", SERVE_EAGER)
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    providers = house.make(f"{{package: ik-probe, {QUICK}}}")
    before = house.row()
    assert [(part.name, part.mode, part.state, part.pid) for part in before.parts] == [
        ("host", "host", ProviderState.STARTING, None),
        ("worker", "loop", ProviderState.STARTING, None),
    ]
    await providers.start()
    row = house.row()
    assert (row.status.state, row.status.reason, row.mode) == (ProviderState.READY, "", "host")
    host, worker = row.parts
    assert (host.name, host.state, host.pid, host.generation) == ("host", ProviderState.READY, os.getpid(), None)
    assert (worker.name, worker.mode, worker.state, worker.generation) == ("worker", "loop", ProviderState.READY, 1)
    assert alive(house.pid())
    assert await house.call("echo", "hi") == "hi"
    assert await house.call("call", RELAY) == "host part of probe says hello"
    assert await house.call("key") == KEY.public_key.hex()
    assert house.events() == ["start module", "start capability", "start service"]
    # Nothing was told of the provider but that it starts, before all of it was there.
    states = [row.status.state for row in house.rows]
    assert states[-1] is ProviderState.READY
    assert set(states[:-1]) == {ProviderState.STARTING}


async def test_a_provider_of_processes_alone_is_never_imported(house: House) -> None:
    loud = "raise SystemExit('imported')\n"
    house.site.install("probe", loud, init=loud, capabilities=[LOOP], processes=WORKS)
    await house.start()
    assert (house.row().status.state, house.row().mode) == (ProviderState.READY, "loop")
    assert await house.call("echo", "hi") == "hi"
    assert "ik_probe" not in sys.modules


async def test_closing_takes_everything_back_in_the_reverse_order(house: House) -> None:
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    providers = await house.start()
    pid = house.pid()
    seen: list[tuple[str, bool, bool]] = []
    events = house.events()

    class Watched(list):  # type: ignore[type-arg] # what the provider appends to
        def append(self, event: str) -> None:
            seen.append((event, alive(pid), house.registry.bound("probe").ready(ECHO)))
            super().append(event)

    sys.modules["ik_probe.plugin"].EVENTS = Watched(events)
    await providers.close()
    assert seen == [
        ("close service", True, False),
        ("close capability", False, False),
        ("close module", False, False),
    ]
    assert [(part.state, part.pid) for part in house.row().parts] == [(ProviderState.STOPPED, None)] * 2
    assert house.row().status.state is ProviderState.STOPPED
    with pytest.raises(CapabilityError, match="not available"):
        await house.call("echo")


async def test_a_process_is_told_whose_it_is_and_nothing_of_the_host(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hunter2")
    house.command("aide", AIDE)
    processes = {
        "worker": {"executable": "ik-worker", "capabilities": [ECHO], "needs": ["aide"]},
        "aide": {"executable": "aide", "helper": True},
    }
    house.site.install(
        "probe", capabilities=[LOOP], processes=processes, config={"type": "object", "additionalProperties": True}
    )
    entry = "{package: ik-probe, env: {LEVEL: {$env: LEVEL}}, config: {key: {$env: KEY}, deep: [1, {a: é}]}}"
    await house.start(entry, environ={"LEVEL": "debug", "KEY": "hunter3"})
    assert json.loads(await house.call("config")) == {"key": "hunter3", "deep": [1, {"a": "é"}]}
    environ = json.loads(await house.call("environ"))
    settings = house.settings
    own = {
        "LEVEL": "debug",
        "LANG": "C.UTF-8",
        "INNKEEPER_PROVIDER": "probe",
        "INNKEEPER_PROCESS": "worker",
        "INNKEEPER_ENVIRONMENT": "development",
        "INNKEEPER_DATA_DIR": str(settings.data_dir / "providers" / "probe"),
        "INNKEEPER_CACHE_DIR": str(settings.cache_dir / "providers" / "probe"),
        "INNKEEPER_RUNTIME_DIR": str(settings.socket_dir / "providers" / "probe"),
    }
    assert {name: environ.get(name) for name in own} == own
    rest = {name for name in environ if not name.startswith(("PLUGIN_", "CL_", "INNKEEPER_"))}
    assert rest == {"LEVEL", "LANG", "TMPDIR"}
    assert environ["PLUGIN_UNIX_SOCKET_DIR"].startswith(str(settings.socket_dir / "loop"))
    aide = json.loads(await house.call("aide", "environ"))
    assert {name: aide.get(name) for name in own} == {**own, "INNKEEPER_PROCESS": "aide"}
    assert {name for name in aide if not name.startswith("INNKEEPER_")} <= {
        "LEVEL", "LANG", "PATH", "LD_LIBRARY_PATH",
    }  # fmt: skip
    assert [(part.name, part.mode, part.state, part.generation) for part in house.row().parts] == [
        ("worker", "loop", ProviderState.READY, 1),
        ("aide", "helper", ProviderState.READY, 1),
    ]
    assert alive(house.pid("aide"))


async def test_where_there_is_a_choice_the_entry_says_where_a_capability_runs(house: House) -> None:
    host_part = HOST_PART.replace("relay@1.0.0", BOTH)
    parts = {
        **WHOLE,
        "capabilities": [action(BOTH, "host loop", "echo")],
        "processes": {"worker": {"executable": "ik-worker", "capabilities": [BOTH]}},
    }
    house.command("ik-worker", SERVE_BOTH)
    house.site.install("probe", host_part, value="ik_probe.plugin", **parts)
    providers = await house.start("{package: ik-probe}")
    assert [part.name for part in house.row().parts] == ["host"]
    assert await house.call("echo", "hi", id_=BOTH) == "host part of probe says hi"
    await providers.close()

    del sys.modules["ik_probe.plugin"], sys.modules["ik_probe"]
    without = host_part.replace('return [Relay("capability")]', "return []")
    house.site.path.joinpath("ik_probe", "plugin.py").write_text(without)
    house.registry.withdraw("probe")
    await house.start("{package: ik-probe, mode: loop}")
    assert [(part.name, part.mode) for part in house.row().parts] == [("host", "host"), ("worker", "loop")]
    assert await house.call("echo", "hi", id_=BOTH) == "hi"


async def test_a_process_that_dies_takes_its_provider_out_of_service_until_the_next_one_is_there(house: House) -> None:
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    providers = await house.start()
    module = providers.module_types()["plain"].module_type
    first = house.pid()
    house.rows.clear()
    served_while_down: list[object] = []

    def look(row: ProviderStatusRow) -> None:
        if row.status.state is ProviderState.RESTARTING:
            asyncio.get_running_loop().call_soon(
                lambda: served_while_down.append((providers.module_types(), house.registry.bound("probe").ready(ECHO)))
            )

    providers.subscribe(look)
    os.kill(first, signal.SIGKILL)
    await house.until(lambda: house.row().status.state is ProviderState.READY and house.part().generation == 2)
    down = [row for row in house.rows if row.status.state is ProviderState.RESTARTING]
    assert down
    assert down[0].status.reason == "the process worker was ended by SIGKILL"
    assert down[0].parts[0].state is ProviderState.READY
    assert set(map(str, served_while_down)) == {"({}, False)"}
    assert house.pid() != first
    assert await house.call("echo", "again") == "again"
    # The host part went on: what runs on its module types keeps them.
    assert providers.module_types()["plain"].module_type is module
    assert house.events() == ["start module", "start capability", "start service"]
    assert house.row().status.reason == ""


async def test_while_a_process_is_down_whoever_may_call_it_is_told_at_once(house: House) -> None:
    house.site.install("probe", capabilities=[LOOP], processes=WORKS)
    await house.start("{package: ik-probe, restart: {backoff_first_seconds: 60, backoff_most_seconds: 60}}")
    house.registry.grant("friend", [ECHO])
    with pytest.raises(CapabilityError) as caught:
        await house.call("exit", caller="friend")
    assert caught.value.error_code is ErrorCode.Unavailable
    await house.until(lambda: house.row().status.state is ProviderState.RESTARTING)
    assert house.part().pid is None
    async with asyncio.timeout(1):
        with pytest.raises(CapabilityError, match="not available"):
            await house.call("echo", caller="friend")
    # Who may not call it can tell nothing from that.
    with pytest.raises(NotFoundError, match="not found"):
        await house.call("echo", caller="stranger")


async def test_a_process_that_dies_again_and_again_quarantines_its_provider(house: House) -> None:
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    providers = await house.start(
        "{package: ik-probe, restart: {budget: 1, backoff_first_seconds: 0.01, backoff_most_seconds: 0.01}}"
    )
    os.kill(house.pid(), signal.SIGKILL)
    await house.until(lambda: house.row().status.state is ProviderState.READY and house.part().generation == 2)
    os.kill(house.pid(), signal.SIGKILL)
    await house.until(lambda: house.row().status.state is ProviderState.QUARANTINED)
    assert "SIGKILL" in house.row().status.reason
    assert providers.module_types() == {}
    await providers.close()
    assert house.events()[-1] == "close module"
    assert house.row().status.state is ProviderState.STOPPED


async def test_a_helper_that_dies_ends_its_process_s_generation(house: House) -> None:
    house.command("aide", AIDE)
    processes = {
        "worker": {"executable": "ik-worker", "capabilities": [ECHO], "needs": ["aide"]},
        "aide": {"executable": "aide", "helper": True},
    }
    house.site.install("probe", capabilities=[LOOP], processes=processes)
    await house.start()
    worker, aide = house.pid(), house.pid("aide")
    os.kill(aide, signal.SIGKILL)
    await house.until(lambda: house.row().status.state is ProviderState.READY and house.part().generation == 2)
    assert not alive(worker)
    assert house.part("aide").generation == 2
    assert any("helper aide" in row.status.reason for row in house.rows)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys; sys.exit('no licence')", "no licence"),
        (WORKER + 'serve(lambda context: [Echo(context, "other@1.0.0")])\n', "other@1.0.0"),
        (WORKER + "serve(lambda context: [])\n", "at least one Capability"),
    ],
    ids=["it ends", "it adds what is not declared", "it adds nothing"],
)
async def test_a_provider_whose_process_cannot_start_failed_and_its_host_part_is_undone(
    house: House, source: str, said: str
) -> None:
    house.command("ik-worker", source)
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    house.site.install("good", HOST_PART.replace("relay", "good"), value="ik_good.plugin", **{
        **WHOLE, "modules": [{"name": "good"}], "capabilities": [action("good@1.0.0", "host", "echo")], "processes": {},
    })  # fmt: skip
    plugin = house.site.path / "ik_good" / "plugin.py"
    plugin.write_text(plugin.read_text().replace('return "plain"', 'return "good"'))
    providers = await house.start("{package: ik-probe}, {package: ik-good}")
    row = house.row()
    assert row.status.state is ProviderState.FAILED
    assert said in row.status.reason
    assert house.row("good").status.state is ProviderState.READY
    assert list(providers.module_types()) == ["good"]
    host, worker = row.parts
    assert (host.state, host.pid) == (ProviderState.STOPPED, None)
    assert (worker.state, worker.pid) == (ProviderState.FAILED, None)
    assert said in worker.reason
    assert house.events() == ["start module", "start capability", "close capability", "close module"]
    assert not house.registry.bound("probe").ready(RELAY)
    assert [listed.info.id for listed in house.registry.list(Operator()) if listed.ready] == ["good@1.0.0"]


async def test_what_is_no_plugin_for_this_host_is_unsupported(house: House) -> None:
    house.command(
        "ik-worker",
        "import sys; sys.exit('This binary is a plugin. These are not meant to be executed directly.')",
    )
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    await house.start()
    assert house.row().status.state is ProviderState.UNSUPPORTED
    assert house.part().state is ProviderState.UNSUPPORTED
    assert house.events()[-1] == "close module"


async def test_a_command_that_is_not_installed_fails_before_anything_is_imported(house: House) -> None:
    loud = "raise SystemExit('imported')\n"
    parts = {**WHOLE, "processes": {"worker": {"executable": "ik-gone", "capabilities": [ECHO], "extra": "heavy"}}}
    house.site.install("probe", loud, **parts)
    await house.start()
    status = house.row().status
    assert status.state is ProviderState.FAILED
    assert f"the command ik-gone of its process worker is not installed in {house.commands}" in status.reason
    assert status.reason.endswith("install it with: pip install 'ik-probe[heavy]'")
    assert "ik_probe.plugin" not in sys.modules
    assert [part.state for part in house.row().parts] == [ProviderState.STOPPED] * 2


@pytest.mark.parametrize("what", ["a directory", "not executable"])
async def test_what_cannot_be_executed_is_not_installed(house: House, what: str) -> None:
    path = house.commands / "ik-worker"
    path.unlink()
    if what == "a directory":
        path.mkdir()
    else:
        path.write_text("")
        path.chmod(0o644)
    house.site.install("probe", capabilities=[LOOP], processes=WORKS)
    await house.start()
    assert "is not installed" in house.row().status.reason


async def test_a_required_provider_whose_process_cannot_start_stops_the_host(house: House) -> None:
    house.command("ik-worker", "raise SystemExit('broken')")
    house.site.install("probe", capabilities=[LOOP], processes=WORKS)
    with pytest.raises(ProviderFailedError, match=r"the required provider probe is failed: .*broken"):
        await house.start("{package: ik-probe, required: true}")


async def test_a_secret_of_env_is_in_no_reason(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.command("ik-worker", "import os; raise SystemExit('bad ' + os.environ['TOKEN'])")
    house.site.install("probe", capabilities=[LOOP], processes=WORKS)
    await house.start("{package: ik-probe, env: {TOKEN: {$env: TOKEN}}}", environ={"TOKEN": "hunter2"})
    assert house.row().status.state is ProviderState.FAILED
    assert "hunter2" not in house.row().status.reason


async def test_a_process_starts_after_those_that_it_needs_and_ends_before_them(house: House) -> None:
    order = house.folder / "order"
    for name in ("first", "second"):
        source = (
            f"open({str(order)!r}, 'a').write('+{name} ')\n"
            + WORKER
            + f"""
class Own(Echo):
    async def close(self):
        open({str(order)!r}, "a").write("-{name} ")

serve(lambda context: [Own(context, "{name}@1.0.0")])
"""
        )
        house.command(f"ik-{name}", source)
    house.site.install(
        "probe",
        capabilities=[action("first@1.0.0", "loop"), action("second@1.0.0", "loop")],
        processes={
            "a-second": {"executable": "ik-second", "capabilities": ["second@1.0.0"], "needs": ["b-first"]},
            "b-first": {"executable": "ik-first", "capabilities": ["first@1.0.0"]},
        },
    )
    providers = await house.start()
    assert house.row().status.state is ProviderState.READY
    await providers.close()
    assert order.read_text() == "+first +second -second -first "


async def test_what_a_grant_names_need_not_be_there_yet(house: House) -> None:
    house.site.install("probe", capabilities=[LOOP], processes=WORKS)
    await house.start("{package: ik-probe, grants: [later@1.0.0]}")
    assert "not found" in await house.call("call", "later@1.0.0")
    house.command("ik-later", WORKER + 'serve(lambda context: [Echo(context, "later@1.0.0")])\n')
    house.registry.declare("later", [])
    assert "not found" in await house.call("call", "relay@1.0.0")


async def test_a_start_that_is_given_up_leaves_no_process(house: House) -> None:
    started = house.folder / "started"
    house.command("ik-worker", f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    house.site.install("probe", HOST_PART, value="ik_probe.plugin", **WHOLE)
    starting = asyncio.create_task(house.start())
    async with asyncio.timeout(DEADLINE):
        while not (started.exists() and started.read_text()):  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.wait({starting})
    assert house.providers is not None
    await house.providers.close()
    assert not alive(int(started.read_text()))
    assert house.events()[-1] == "close module"
    assert house.row().status.state is ProviderState.STOPPED


async def test_a_process_that_is_not_ready_in_time_fails_its_provider(house: House) -> None:
    house.command("ik-worker", "import time; time.sleep(600)")
    house.site.install("probe", capabilities=[LOOP], processes=WORKS)
    await house.start("{package: ik-probe, restart: {start_seconds: 0.5}}")
    assert house.row().status.state is ProviderState.FAILED
    assert "0.5 s" in house.row().status.reason

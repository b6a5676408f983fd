"""What the control calls do, with a real store, registry and socket, and a small handler."""

from __future__ import annotations

import asyncio
import base64
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import evolve
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper import __version__
from innkeeper.capabilities.registry import Registry
from innkeeper.config.settings import Settings
from innkeeper.control import simulation
from innkeeper.control.server import ControlServer
from innkeeper.control.service import ControlService
from innkeeper.control.status import MAX_CONFIG_BYTES, MAX_FILE_BYTES, HostStatus
from innkeeper.engine.events import Broadcast, ExecutionChanged, LineWritten
from innkeeper.loop.guard import Guard
from innkeeper.modules.kinds import DeclaredKind
from innkeeper.modules.messages import Messages
from innkeeper.providers.parts import PartRow
from innkeeper.providers.states import ProviderState, ProviderStatus, ProviderStatusRow
from innkeeper.store.database import Database
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus, Outcome
from innkeeper.store.logs import LogLine, add_lines
from innkeeper.store.specs import SpecStatus
from innkeeper.store.stores import Stores
from innkeeper.workflows.deployment import Deployment
from innkeeper.workflows.views import TriggerView, WorkflowState, WorkflowView
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityType, Visibility
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.errors import (
    ConflictError,
    ExitCode,
    HostUnreachableError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WorkflowError,
)
from innkeeper_sdk.manifest import CapabilityDeclaration, Kind, Method, Suffix
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

DEADLINE = 10.0
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "00" + "ab" * 31
OWNER = "11" * 20
TRIGGER = "ticker@1.0.0"
HIDDEN = "hidden@1.0.0"

T = TypeVar("T")


def workflow_view(**changes: Any) -> WorkflowView:
    payload = AnyMessage()
    payload.Pack(Timestamp(seconds=60))
    view = WorkflowView(
        workflow_id=ID,
        owner=OWNER,
        name="one",
        tag="v1",
        kind="plain",
        status=SpecStatus.ACTIVE,
        state=WorkflowState.RUNNING,
        reason="",
        module="runner",
        attributes=b'{"a": 1}',
        binary_url="artifact:x",
        binary_sha256="aa",
        source="local",
        created_at=NOW,
        updated_at=NOW,
        triggers=(TriggerView(0, TRIGGER, "Tick", payload, "runner"), TriggerView(1, HIDDEN, "Do", AnyMessage())),
        active=1,
        queued=2,
        dropped_events=3,
    )
    return evolve(view, **changes)


class Handler:
    """Remembers what was asked, and fires executions that wait to be let on."""

    def __init__(self, stores: Stores, events: Broadcast) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.all = [workflow_view(name="two", workflow_id="00" + "cd" * 31), workflow_view()]
        self.on = asyncio.Event()
        self.fired = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.error: Exception | None = None
        self._stores = stores
        self._events = events

    async def deploy(self, deployment: Deployment, *, paused: bool, allow_plain: bool) -> WorkflowView:
        self.asked.append(("deploy", deployment, paused, allow_plain))
        return workflow_view(name=deployment.name, owner=deployment.owner)

    async def simulate(self, deployment: Deployment, *, secrets: Any) -> WorkflowView:
        self.asked.append(("simulate", deployment, await secrets.get(OWNER, "main", "token")))
        return workflow_view()

    async def find(self, text: str, *, owner: str = "") -> WorkflowView:
        for view in self.all:
            if text in (view.workflow_id, view.name):
                return view
        raise NotFoundError(f"there is no workflow {text!r}")

    async def view(self, workflow_id: str) -> WorkflowView:
        return await self.find(workflow_id)

    async def views(self) -> list[WorkflowView]:
        return self.all

    async def activate(self, workflow_id: str) -> WorkflowView:
        self.asked.append(("activate", workflow_id))
        return workflow_view()

    async def pause(self, workflow_id: str) -> WorkflowView:
        self.asked.append(("pause", workflow_id))
        return workflow_view(status=SpecStatus.PAUSED, state=WorkflowState.PAUSED)

    async def delete(self, workflow_id: str) -> bool:
        self.asked.append(("delete", workflow_id))
        return True

    async def fire(self, workflow_id: str, trigger: int, event: AnyMessage | None) -> ExecutionRecord:
        self.asked.append(("fire", workflow_id, trigger, event))
        self.fired.set()
        try:
            await self.on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error
        record = execution(9, status=ExecutionStatus.ACCEPTED)
        await self._stores.executions.accept(record, b"")
        self._events.publish(ExecutionChanged(evolve(record, workflow_id="another")))
        self._events.publish(ExecutionChanged(record))
        line = LogLine(workflow_id, record.execution_id, 0, NOW, "hello")
        outcome = Outcome(status=ExecutionStatus.SUCCESS, finished_at=NOW, result=b"", seconds=0.5)
        await self._stores.database.write(self._stores.executions.finish(record.execution_id, outcome, [line]))
        self._events.publish(LineWritten(line), LineWritten(evolve(line, workflow_id="another")))
        return evolve(record, status=ExecutionStatus.SUCCESS, finished_at=NOW, seconds=0.5)


class Providers:
    def statuses(self) -> list[ProviderStatusRow]:
        status = ProviderStatus(ProviderState.FAILED, "it broke", NOW)
        parts = (
            PartRow("host", "host", ProviderState.STOPPED, "", NOW),
            PartRow("worker", "loop", ProviderState.FAILED, "it broke", NOW, 7, 2),
        )
        return [ProviderStatusRow("p", "P", "ik-p", "1.0", "host", status, True, "plugins.yaml:3:5", parts)]


class Nothing(Capability):
    def __init__(self, id_: str) -> None:
        self._info = CapabilityInfo(id=id_, type=CapabilityType.TRIGGER)

    @property
    def info(self) -> CapabilityInfo:
        return self._info


def execution(number: int, **changes: Any) -> ExecutionRecord:
    record = ExecutionRecord(
        execution_id=f"{number:064x}",
        workflow_id=ID,
        trigger_index=0,
        event_id=f"event-{number}",
        status=ExecutionStatus.ACCEPTED,
        accepted_at=NOW + timedelta(seconds=number),
    )
    return evolve(record, **changes)


class World:
    """A control server with what stands behind it, and a client."""

    def __init__(self, folder: Path, stores: Stores, environment: str) -> None:
        self.stores = stores
        self.events = Broadcast()
        self.handler = Handler(stores, self.events)
        self.registry = Registry(logger=logging.getLogger("test"))
        self.registry.declare(
            "p",
            [
                CapabilityDeclaration(
                    TRIGGER,
                    CapabilityType.TRIGGER,
                    description="Ticks.",
                    visibility=Visibility.PUBLIC,
                    methods={"Tick": Method(output="google.protobuf.Timestamp")},
                ),
                CapabilityDeclaration(HIDDEN, CapabilityType.TRIGGER, methods={"Do": Method()}),
            ],
        )
        self.registry.grant("friend", [HIDDEN])
        self.registry.register("p", Nothing(TRIGGER))
        settings = Settings("test", environment, folder, folder, folder, "sqlite://", default_owner=OWNER)
        self.status = HostStatus(settings)
        service = ControlService(
            status=self.status,
            providers=Providers(),  # type: ignore[arg-type] # what is used of them
            registry=self.registry,
            handler=self.handler,  # type: ignore[arg-type] # what is used of it
            stores=stores,
            events=self.events,
            messages=Messages(),
            kinds=[DeclaredKind("p", Kind("plain", "runner", [Suffix(".bin"), Suffix(".b64", "base64")]))],
        )
        self.server = ControlServer(
            service,
            socket=folder / "control.sock",
            max_request_bytes=MAX_CONFIG_BYTES + (1 << 20),
            guard=Guard(logging.getLogger("test.guard")),
            logger=logging.getLogger("test.control"),
        )
        self._socket = folder / "control.sock"

    async def call(self, ask: Callable[[ControlClient], T]) -> T:
        """Ask as a command does, in a thread."""

        def run() -> T:
            with ControlClient(self._socket) as client:
                return ask(client)

        return await asyncio.to_thread(run)

    async def add(self, record: ExecutionRecord, *messages: str) -> None:
        """Store an execution and its lines, and tell of them."""
        await self.stores.executions.accept(record, b"")
        await self.log(record, *messages)
        self.events.publish(ExecutionChanged(record))

    async def log(self, record: ExecutionRecord, *messages: str, first: int = 0) -> None:
        lines = [
            LogLine(record.workflow_id, record.execution_id, first + number, NOW, message)
            for number, message in enumerate(messages)
        ]
        await self.stores.database.write(lambda connection: add_lines(connection, lines))
        self.events.publish(*map(LineWritten, lines))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
async def world(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[World]:
    """Return a running control server; of a development host unless the test asks otherwise."""
    database = Database(f"sqlite:///{folder / 'test.db'}")
    await database.open()
    made = World(folder, Stores.of(database), getattr(request, "param", "development"))
    await made.server.start()
    yield made
    made.events.close()
    await made.server.stop(0)
    await database.close()


async def test_a_host_says_who_it_is(world: World) -> None:
    host = await world.call(ControlClient.host)
    assert (host.name, host.environment, host.version) == ("test", "development", __version__)
    assert (host.ready, host.draining, host.max_file_bytes) == (False, False, MAX_FILE_BYTES)
    world.status.ready = world.status.draining = True
    host = await world.call(ControlClient.host)
    assert (host.ready, host.draining) == (True, True)


async def test_a_configuration_that_is_too_large_is_refused(world: World) -> None:
    artifacts = pb.WorkflowArtifacts(binary=b"x", file_name="x.bin", config=b"x" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(LimitExceededError, match=f"the configuration is larger .*at most {MAX_CONFIG_BYTES} bytes"):
        await world.call(lambda client: client.deploy(artifacts))


async def test_providers_are_told_with_their_reasons(world: World) -> None:
    (provider,) = await world.call(ControlClient.providers)
    assert (provider.id, provider.state, provider.reason) == ("p", "failed", "it broke")
    assert (provider.package, provider.version, provider.required) == ("ik-p", "1.0", True)
    assert provider.since.ToDatetime(tzinfo=UTC) == NOW
    host, worker = provider.parts
    assert (host.name, host.mode, host.state, host.reason) == ("host", "host", "stopped", "")
    assert (host.HasField("pid"), host.HasField("generation")) == (False, False)
    assert (worker.name, worker.mode, worker.state, worker.reason) == ("worker", "loop", "failed", "it broke")
    assert (worker.pid, worker.generation, worker.since.ToDatetime(tzinfo=UTC)) == (7, 2, NOW)


async def test_the_operator_sees_what_is_internal_and_what_is_not_ready(world: World) -> None:
    hidden, ticker = await world.call(ControlClient.capabilities)
    assert (hidden.id, hidden.visibility, hidden.ready, list(hidden.granted_to)) == (
        HIDDEN,
        "internal",
        False,
        ["friend"],
    )
    assert (ticker.id, ticker.visibility, ticker.ready, ticker.provider) == (TRIGGER, "public", True, "p")
    assert [(m.name, m.output) for m in ticker.methods] == [("Tick", "google.protobuf.Timestamp")]
    assert (await world.call(lambda client: client.capability(HIDDEN))).id == HIDDEN


async def test_a_near_capability_is_suggested_to_the_operator(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"capability tickr@1.0.0 not found; did you mean ticker@1.0.0.*\?"):
        await world.call(lambda client: client.capability("tickr@1.0.0"))
    with pytest.raises(NotFoundError, match=r"capability zzz not found$"):
        await world.call(lambda client: client.capability("zzz"))


async def test_a_deployment_is_decoded_and_gets_the_default_owner(world: World) -> None:
    sent = pb.WorkflowArtifacts(
        binary=base64.b64encode(b"binary") + b"\n",
        file_name="x.b64",
        config=b"{}",
        attributes=b'{"a": 1}',
        name="one",
        tag="v2",
    )
    view = await world.call(lambda client: client.deploy(sent, paused=True, allow_plain=True))
    assert (view.name, view.owner) == ("one", OWNER)
    assert world.handler.asked == [
        (
            "deploy",
            Deployment(
                binary=b"binary",
                kind="plain",
                name="one",
                owner=OWNER,
                config=b"{}",
                attributes=b'{"a": 1}',
                tag="v2",
            ),
            True,
            True,
        )
    ]


@pytest.mark.parametrize(
    ("artifacts", "expected"),
    [
        (pb.WorkflowArtifacts(binary=b"x", file_name="x.exe"), "no enabled module type takes this file"),
        (pb.WorkflowArtifacts(binary=b"", file_name="x.bin"), "the binary is empty"),
        (pb.WorkflowArtifacts(binary=b"!", file_name="x.b64"), "not base64"),
    ],
)
async def test_what_is_no_workflow_is_refused(world: World, artifacts: pb.WorkflowArtifacts, expected: str) -> None:
    with pytest.raises(WorkflowError, match=expected):
        await world.call(lambda client: client.deploy(artifacts))
    assert world.handler.asked == []


async def test_a_file_that_is_too_large_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innkeeper.control.service.MAX_FILE_BYTES", 10)
    large = pb.WorkflowArtifacts(binary=b"x" * 11, file_name="x.bin")
    with pytest.raises(LimitExceededError, match="the binary is larger than this host takes"):
        await world.call(lambda client: client.deploy(large))


async def test_workflows_are_shown_sorted_with_their_triggers(world: World) -> None:
    one, two = await world.call(ControlClient.workflows)
    assert (one.name, two.name) == ("one", "two")
    shown = await world.call(lambda client: client.workflow(pb.WorkflowSelector(workflow="one")))
    assert shown == one
    assert (shown.status, shown.state, shown.module) == ("active", "running", "runner")
    assert (shown.active, shown.queued, shown.dropped_events) == (1, 2, 3)
    assert [(t.index, t.id, t.method, t.payload_json) for t in shown.triggers] == [
        (0, TRIGGER, "Tick", '"1970-01-01T00:01:00Z"'),
        (1, HIDDEN, "Do", ""),
    ]


async def test_a_workflow_is_activated_paused_and_deleted_by_name(world: World) -> None:
    one = pb.WorkflowSelector(workflow="one")
    assert (await world.call(lambda client: client.activate(one))).state == "running"
    assert (await world.call(lambda client: client.pause(one))).state == "paused"
    await world.call(lambda client: client.delete(one))
    assert world.handler.asked == [("activate", ID), ("pause", ID), ("delete", ID)]
    with pytest.raises(NotFoundError, match="'none'"):
        await world.call(lambda client: client.delete(pb.WorkflowSelector(workflow="none")))


async def test_executions_are_listed_newest_first_and_filtered(world: World) -> None:
    for number in range(3):
        await world.add(execution(number))
    await world.add(execution(7, workflow_id="00" + "cd" * 31))
    listed = await world.call(ControlClient.executions)
    assert [e.event_id for e in listed] == ["event-7", "event-2", "event-1", "event-0"]
    one = pb.WorkflowSelector(workflow="one")
    listed = await world.call(lambda client: client.executions(one, limit=2))
    assert [e.event_id for e in listed] == ["event-2", "event-1"]
    assert await world.call(lambda client: list(client.executions(status="success"))) == []
    with pytest.raises(UsageError, match=r"no execution has the status 'sucess'.*in_doubt"):
        await world.call(lambda client: client.executions(status="sucess"))


async def test_an_execution_is_shown_with_its_log(world: World) -> None:
    await world.add(execution(1), "a", "b")
    await world.add(execution(2), "c")
    shown = await world.call(lambda client: client.execution(f"{1:064x}"))
    assert [line.message for line in shown.logs] == ["a", "b"]
    assert not shown.HasField("finished_at")
    with pytest.raises(NotFoundError, match="there is no execution 'x'"):
        await world.call(lambda client: client.execution("x"))


async def test_changes_of_executions_are_watched(world: World) -> None:
    def watch(client: ControlClient) -> list[str]:
        with closing(client.watch_executions(pb.WorkflowSelector(workflow="one"))) as changes:
            return [change.event_id for change in changes]

    watching = asyncio.create_task(world.call(watch))
    await following(world)
    await world.add(execution(7, workflow_id="00" + "cd" * 31))
    await world.add(execution(1))
    world.events.close()
    assert await watching == ["event-1"]


async def test_logs_end_without_follow_and_go_on_with_it(world: World) -> None:
    await world.add(execution(1), *(f"line {number}" for number in range(600)))
    await world.add(execution(2), "other execution")
    one = pb.WorkflowSelector(workflow="one")

    def read(client: ControlClient, **how: Any) -> list[str]:
        return [line.message for line in client.logs(one, **how)]

    assert await world.call(read) == [*(f"line {number}" for number in range(600)), "other execution"]
    assert await world.call(lambda client: read(client, tail=2)) == ["line 599", "other execution"]
    assert await world.call(lambda client: read(client, execution_id=f"{2:064x}")) == ["other execution"]

    def follow(client: ControlClient) -> list[str]:
        lines = client.logs(one, tail=1, follow=True)
        first = next(lines)
        loop.call_soon_threadsafe(begun.set)
        return [first.message, *(line.message for line in lines)]

    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    following_one = asyncio.create_task(world.call(follow))
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
    await world.log(execution(2), "late", first=1)
    world.events.close()
    assert await following_one == ["other execution", "late"]


async def test_a_slow_follower_misses_no_line(world: World) -> None:
    await world.add(execution(1))
    expected = [f"line {number}" for number in range(3000)]

    def read(client: ControlClient) -> list[str]:
        return [line.message for line in client.logs(pb.WorkflowSelector(workflow="one"), follow=True)]

    reading = asyncio.create_task(world.call(read))
    await following(world)
    for first in range(0, 3000, 750):
        await world.log(execution(1), *expected[first : first + 750], first=first)
    world.events.close()
    assert await reading == expected


async def test_only_a_development_host_simulates(folder: Path, world: World) -> None:
    world.status.settings = evolve(world.status.settings, environment="production")
    with pytest.raises(ConflictError, match=r"on a development host only.*environment production"):
        await world.call(lambda client: client.simulate(pb.WorkflowArtifacts(binary=b"x", file_name="x.bin")))
    with pytest.raises(ConflictError, match="on a development host only"):
        await world.call(lambda client: list(client.fire(ID)))
    assert world.handler.asked == []


async def test_a_secret_without_a_namespace_is_in_main(world: World) -> None:
    artifacts = pb.WorkflowArtifacts(binary=b"x", file_name="x.bin", name="w")
    await world.call(lambda client: client.simulate(artifacts, [pb.Secret(name="token", value="t0k3n")]))
    assert world.handler.asked[-1][2] == "t0k3n"


@pytest.mark.parametrize("namespaces", [("", "main"), ("main", ""), ("main", "main"), ("x", "x")])
async def test_a_secret_that_is_sent_twice_is_refused_and_never_chosen_from(
    world: World, namespaces: tuple[str, str]
) -> None:
    artifacts = pb.WorkflowArtifacts(binary=b"x", file_name="x.bin", name="w")
    secrets = [pb.Secret(namespace=one, name="token", value=f"t0k3n of {one}") for one in namespaces]
    with pytest.raises(UsageError, match="is given twice") as caught:
        await world.call(lambda client: client.simulate(artifacts, secrets))
    assert "t0k3n" not in str(caught.value)
    assert world.handler.asked == []


async def test_a_simulation_has_the_secrets_that_were_sent(world: World) -> None:
    artifacts = pb.WorkflowArtifacts(binary=b"x", file_name="x.bin", name="one")
    secret = pb.Secret(namespace="main", name="token", value="s3cr3t")
    view = await world.call(lambda client: client.simulate(artifacts, [secret]))
    assert view.workflow_id == ID
    ((_, deployment, value),) = world.handler.asked
    assert (deployment.binary, value) == (b"x", "s3cr3t")


def fire(payload: str = "", trigger: int = 0) -> Callable[[ControlClient], list[pb.FireTriggerUpdate]]:
    return lambda client: list(client.fire(ID, trigger, payload_json=payload))


async def test_firing_tells_lines_and_then_the_execution_with_all_of_them(world: World) -> None:
    world.handler.on.set()
    log, last = await world.call(fire())
    assert log.log.message == "hello"
    assert last.execution.status == "success"
    assert last.execution.seconds == 0.5
    assert [line.message for line in last.execution.logs] == ["hello"]
    assert world.handler.asked == [("fire", ID, 0, None)]


async def test_a_trigger_that_has_no_event_yet_is_waited_for_and_that_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "_PATIENCE", 0.01)

    def run(client: ControlClient) -> list[str | None]:
        kinds = []
        for update in client.fire(ID):
            kinds.append(update.WhichOneof("update"))
            if kinds == ["waiting"]:
                loop.call_soon_threadsafe(world.handler.on.set)
        return kinds

    loop = asyncio.get_running_loop()
    assert await world.call(run) == ["waiting", "log", "execution"]


async def test_a_payload_becomes_the_message_of_the_triggers_method(world: World) -> None:
    world.handler.on.set()
    await world.call(fire('"2026-01-01T00:00:00Z"'))
    event = world.handler.asked[0][3]
    stamp = Timestamp()
    assert event.Unpack(stamp)
    assert stamp.ToJsonString() == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("payload", "trigger", "expected"),
    [
        ('"no time"', 0, "the JSON is no google.protobuf.Timestamp"),
        ("{}", 1, "does not say which message its method Do delivers"),
        ("{}", 2, "there is no trigger 2"),
    ],
)
async def test_a_payload_that_is_none_is_a_wrong_argument(
    world: World, payload: str, trigger: int, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        await world.call(fire(payload, trigger))
    assert caught.value.exit_code is ExitCode.USAGE
    assert world.handler.asked == []


async def test_an_error_of_firing_is_the_clients(world: World) -> None:
    world.handler.on.set()
    world.handler.error = UnavailableError("the capability is not ready")
    with pytest.raises(UnavailableError, match="not ready"):
        await world.call(fire())


async def test_one_trigger_is_fired_at_a_time(world: World) -> None:
    first = asyncio.create_task(world.call(fire()))
    async with asyncio.timeout(DEADLINE):
        await world.handler.fired.wait()
    second = asyncio.create_task(world.call(fire()))
    assert len(world.handler.asked) == 1
    world.handler.on.set()
    await first
    with pytest.raises(ConflictError):  # the handler above fires the same execution again
        await second
    assert len(world.handler.asked) == 2


async def test_a_client_that_goes_ends_the_firing(world: World, folder: Path) -> None:
    client = ControlClient(folder / "control.sock")
    firing = asyncio.create_task(asyncio.to_thread(lambda: list(client.fire(ID))))
    async with asyncio.timeout(DEADLINE):
        await world.handler.fired.wait()
        client.close()
        await world.handler.cancelled.wait()
    with pytest.raises(HostUnreachableError):
        await firing


async def following(world: World) -> None:
    """Wait until somebody follows the host's events."""
    async with asyncio.timeout(DEADLINE):
        while not world.events._subscriptions:  # noqa: ASYNC110 - a client in another thread makes it
            await asyncio.sleep(0.002)

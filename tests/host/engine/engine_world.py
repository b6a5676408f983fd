"""A host around an engine under test: real store, registry and limits; a scripted module, trigger and action."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from attrs import define, evolve, field
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper.capabilities.limits import GLOBAL, LimitTable, declare_limits
from innkeeper.capabilities.registry import Registry
from innkeeper.engine.backoff import Backoff
from innkeeper.engine.concurrency import ExecutionSlots
from innkeeper.engine.engine import Engine
from innkeeper.engine.environment import Environment
from innkeeper.engine.events import Broadcast
from innkeeper.store.database import Database
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.store.stores import Stores
from innkeeper_sdk.capability import (
    Capability,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    MethodInfo,
    TriggerEvent,
    TriggerRegistration,
    Visibility,
)
from innkeeper_sdk.manifest import CapabilityDeclaration, Method
from innkeeper_sdk.module import Module, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest as GuestRequest,
)
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    ExecuteRequest,
    ExecutionResult,
    TriggerSubscription,
)

OWNER = "22" * 20
WORKFLOW = "00" + "11" * 31
TRIGGER = "test-trigger@1.0.0"
ACTION = "test-action@1.0.0"
PATIENCE = 10.0

Handler = Callable[[ExecuteRequest, Run], Awaitable[ExecutionResult]]


def text(value: str) -> AnyMessage:
    """Return a message that holds a text."""
    message = AnyMessage()
    message.Pack(StringValue(value=value))
    return message


def untext(message: AnyMessage) -> str:
    """Return the text that a message holds."""
    inner = StringValue()
    assert message.Unpack(inner)
    return inner.value


def answer(value: str = "fine") -> ExecutionResult:
    """Return a result that is a text."""
    result = ExecutionResult()
    result.value.string_value = value
    return result


def subscription(capability: str = TRIGGER, method: str = "Trigger") -> TriggerSubscription:
    """Return a subscription."""
    return TriggerSubscription(id=capability, method=method, payload=text("config"))


def ask(callback_id: int, payload: str = "question", *, capability: str = ACTION, method: str = "Do") -> GuestRequest:
    """Return a guest's call."""
    return GuestRequest(id=capability, method=method, payload=text(payload), callback_id=callback_id)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is so that nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.001)


async def forever() -> NoReturn:
    """Wait until cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


@define(eq=False)
class ScriptedModule(Module):
    """A module whose guest is a Python function."""

    handler: Handler | None = None
    subscriptions: list[TriggerSubscription] = field(factory=lambda: [subscription()])
    on_subscribe: Handler | None = None
    on_start: Exception | None = None
    requests: list[ExecuteRequest] = field(factory=list)
    runs: list[Run] = field(factory=list)
    history: list[str] = field(factory=list)
    main: str = "scripted"
    why: str = "it is the only one"

    def module_of(self, trigger: int) -> str | None:
        return self.main if trigger < len(self.subscriptions) else None

    async def start(self) -> None:
        self.history.append("started")
        if self.on_start is not None:
            raise self.on_start

    async def close(self) -> None:
        self.history.append("closed")

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        self.requests.append(request)
        self.runs.append(run)
        if request.HasField("subscribe"):
            if self.on_subscribe is not None:
                return await self.on_subscribe(request, run)
            result = ExecutionResult()
            result.trigger_subscriptions.subscriptions.extend(self.subscriptions)
            return result
        try:
            return answer() if self.handler is None else await self.handler(request, run)
        finally:
            self.history.append("executed")


@define(eq=False)
class ScriptedTrigger(Capability):
    """A trigger whose events come from the test."""

    id: str = TRIGGER
    registered: dict[str, asyncio.Queue[TriggerEvent | Exception | None]] = field(factory=dict)
    registrations: list[TriggerRegistration] = field(factory=list)
    unregistered: list[str] = field(factory=list)
    acknowledged: list[tuple[str, str]] = field(factory=list)
    refuse: dict[str, Exception] = field(factory=dict)
    on_register: Callable[[TriggerRegistration], Awaitable[None]] | None = None
    on_ack: Callable[[str], Awaitable[None]] | None = None
    following: TriggerEvent | None = None
    changed: asyncio.Condition = field(factory=asyncio.Condition)

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id=self.id, type=CapabilityType.TRIGGER, methods={"Trigger": MethodInfo(name="Trigger")})

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        if self.on_register is not None:
            await self.on_register(registration)
        if registration.trigger_id in self.refuse:
            raise self.refuse[registration.trigger_id]
        queue: asyncio.Queue[TriggerEvent | Exception | None] = asyncio.Queue()
        async with self.changed:
            self.registrations.append(registration)
            self.registered[registration.trigger_id] = queue
            self.changed.notify_all()
        return _events(queue)

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self.unregistered.append(registration.trigger_id)
        self.registered.pop(registration.trigger_id, None)

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        if self.on_ack is not None:
            await self.on_ack(event_id)
        async with self.changed:
            self.acknowledged.append((trigger_id, event_id))
            self.changed.notify_all()

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        return self.following

    def emit(self, event_id: str, payload: str = "tick", *, trigger_id: str | None = None) -> None:
        """Deliver an event."""
        self.put(TriggerEvent(id=event_id, payload=text(payload)), trigger_id=trigger_id)

    def put(self, item: TriggerEvent | Exception | None, *, trigger_id: str | None = None) -> None:
        """Deliver an event, a failure, or the end."""
        name = trigger_id or next(iter(self.registered))
        self.registered[name].put_nowait(item)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(done)


async def _events(queue: asyncio.Queue[TriggerEvent | Exception | None]) -> AsyncIterator[TriggerEvent]:
    while True:
        item = await queue.get()
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        yield item


@define(eq=False)
class ScriptedAction(Capability):
    """An action that is a Python function."""

    id: str = ACTION
    on_call: Callable[[CapabilityRequest], Awaitable[AnyMessage]] | None = None
    calls: list[CapabilityRequest] = field(factory=list)

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(
            id=self.id,
            type=CapabilityType.ACTION,
            methods={"Do": MethodInfo(name="Do"), "Read": MethodInfo(name="Read", idempotent=True)},
        )

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.calls.append(request)
        if self.on_call is not None:
            return CapabilityResponse(payload=await self.on_call(request))
        return CapabilityResponse(payload=text(f"answer to {untext(request.payload)}"))


@define
class ScriptedClock:
    """A clock whose wall time is the test's; its monotonic time is real unless it is moved."""

    wall: int = 1_767_225_900_000_000_000
    ahead: float = 0.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def limit_table(**settings: Any) -> LimitTable:
    """Return the host's limits, some of them set; ``__`` stands for a dot."""
    declared = declare_limits([]).limits
    return LimitTable(declared, {GLOBAL: {name.replace("__", "."): value for name, value in settings.items()}})


@define(eq=False)
class World:
    """A host, small enough for a test."""

    environment: Environment
    registry: Registry
    trigger: ScriptedTrigger
    action: ScriptedAction
    stores: Stores
    engines: list[Engine] = field(factory=list)

    def engine(self, module: ScriptedModule, *, simulate: bool = False, config: bytes = b"", **changes: Any) -> Engine:
        """Return an engine that is closed when the test is over."""
        environment = evolve(self.environment, **changes) if changes else self.environment
        spec = WorkflowSpec(workflow_id=WORKFLOW, owner=OWNER, name="my-workflow", tag="v1", kind="test")
        engine = Engine(spec, config, module, environment, simulate=simulate)
        self.engines.append(engine)
        return engine

    async def started(self, handler: Handler | None = None, **changes: Any) -> tuple[Engine, ScriptedModule]:
        """Return an engine that runs, and its module."""
        module = ScriptedModule(handler=handler)
        engine = self.engine(module, **changes)
        await engine.start()
        return engine, module

    async def ended(self, count: int = 1) -> list[ExecutionRecord]:
        """Wait until so many executions have ended, and return them, oldest first."""
        with self.environment.events.subscribe() as events:
            async with asyncio.timeout(PATIENCE):
                while len(found := await self._ends()) < count:
                    await anext(events)
        return found

    async def status(self, wanted: ExecutionStatus, *, attempt: int = 1) -> ExecutionRecord:
        """Wait until an execution has a status, and return it."""
        with self.environment.events.subscribe() as events:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for record in await self.stores.executions.newest():
                        if record.status is wanted and record.attempt >= attempt:
                            return record
                    await anext(events)

    async def _ends(self) -> list[ExecutionRecord]:
        return [record for record in reversed(await self.stores.executions.newest()) if record.status.is_end]


@asynccontextmanager
async def open_world(
    directory: Path, *, limits: Mapping[str, Any] | None = None, **changes: Any
) -> AsyncIterator[World]:
    """Make a host, and close it."""
    database = Database(f"sqlite:///{directory}/host.db")
    await database.open()
    trigger, action = ScriptedTrigger(), ScriptedAction()
    registry = Registry()
    registry.declare(
        "test",
        [
            CapabilityDeclaration(
                id=TRIGGER,
                type=CapabilityType.TRIGGER,
                visibility=Visibility.PUBLIC,
                methods={"Trigger": Method()},
            ),
            CapabilityDeclaration(
                id=ACTION,
                type=CapabilityType.ACTION,
                visibility=Visibility.PUBLIC,
                methods={"Do": Method(), "Read": Method(idempotent=True)},
            ),
        ],
    )
    registry.register("test", trigger)
    registry.register("test", action)
    stores = Stores.of(database)
    environment = Environment(
        registry=registry,
        stores=stores,
        limits=limit_table(**(limits or {})),
        slots=ExecutionSlots(1000),
        events=Broadcast(),
        backoff=Backoff(first=0.01, most=0.05),
        **changes,
    )
    world = World(environment, registry, trigger, action, stores)
    try:
        yield world
    finally:
        for engine in world.engines:
            await engine.close()
        await database.close()

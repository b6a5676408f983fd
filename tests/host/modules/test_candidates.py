"""One module type for one workflow: loaded when needed, closed once, contained."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest
from attrs import frozen

from innkeeper.capabilities.limits import LimitTable, declare_limits
from innkeeper.modules.candidates import Candidate
from innkeeper_sdk.errors import ProviderError, UnavailableError, WorkflowError
from innkeeper_sdk.manifest import Limit, LimitType, Manifest
from innkeeper_sdk.module import ExecutionHelper, Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, TeeTypeAndRegions

SPEC = WorkflowSpec(
    workflow_id="cc" * 32, owner="aa" * 20, name="w", tag="", kind="tape", limits={"Host.Kept": 1, "Tape.Size": 99}
)
MANIFEST = Manifest(id="music", title="Music", sdk=">=0", limits={"Tape.Size": Limit(LimitType.SIZE, "5kb")})
PRIVATE = "key=hunter2"
RUN = Run(execution_id="", attempt=1, deadline=time.monotonic() + 60, helper=cast("ExecutionHelper", None))


class Tape(ModuleType):
    """A module type that does, at each step, what a test says; and its own only module."""

    def __init__(self, **acts: Callable[[], object]) -> None:
        self.acts = acts
        self.log: list[str] = []
        self.specs: list[WorkflowSpec] = []
        self.module: Module = _TapeModule(self)

    @property
    def name(self) -> str:
        return "player"

    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        self.specs.append(spec)
        self.act("load")
        return self.module

    async def offers(self) -> Sequence[TeeTypeAndRegions]:
        self.act("offers")
        return ()

    def act(self, step: str) -> None:
        self.log.append(step)
        self.acts.get(step, lambda: None)()


class _TapeModule(Module):
    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.result: object = ExecutionResult(error="x")

    async def start(self) -> None:
        self._tape.act("start")

    async def close(self) -> None:
        self._tape.act("close")

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        self._tape.act("execute")
        return self.result  # type: ignore[return-value] # providers may return anything


@frozen
class Ready:
    """What the host knows of a module type that is ready."""

    module_type: ModuleType
    provider_id: str = "music"
    manifest: Manifest = MANIFEST


def candidate(tape: Tape) -> Candidate:
    limits = LimitTable(declare_limits([MANIFEST]).limits, {f"owner.{SPEC.owner}": {"Tape.Size": 7}})
    return Candidate("player", Ready(tape), spec=SPEC, binary=b"x", limits=limits)


def raises(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


async def test_it_is_loaded_and_started_once_for_all_who_need_it() -> None:
    tape = Tape()
    one = candidate(tape)
    await asyncio.gather(one.start(), one.start(), one.execute(ExecuteRequest(), RUN), one.load())
    assert [step for step in tape.log if step != "execute"] == ["load", "start"]


async def test_the_module_type_is_told_its_providers_limits() -> None:
    tape = Tape()
    await candidate(tape).load()
    assert tape.specs[0].limits == {"Host.Kept": 1, "Tape.Size": 7}
    assert tape.specs[0].workflow_id == SPEC.workflow_id


async def test_what_was_loaded_is_closed_once() -> None:
    tape = Tape()
    one = candidate(tape)
    await one.load()
    await one.close()
    await one.close()
    assert tape.log == ["load", "close"]
    untouched = Tape()
    await candidate(untouched).close()
    assert untouched.log == []


async def test_after_close_nothing_is_loaded_any_more() -> None:
    tape = Tape()
    one = candidate(tape)
    await one.start()
    await one.close()
    for attempt in (one.start(), one.load(), one.execute(ExecuteRequest(), RUN)):
        with pytest.raises(UnavailableError, match="closed"):
            await attempt
    assert tape.log == ["load", "start", "close"]


async def test_a_start_that_fails_is_closed_and_can_be_tried_again() -> None:
    tape = Tape(start=raises(WorkflowError("not today")))
    one = candidate(tape)
    with pytest.raises(WorkflowError, match="not today"):
        await one.start()
    assert tape.log == ["load", "start", "close"]
    tape.acts.clear()
    await one.start()
    assert tape.log == ["load", "start", "close", "load", "start"]


async def test_a_failed_start_is_told_even_if_closing_fails_too() -> None:
    tape = Tape(start=raises(WorkflowError("not today")), close=raises(RuntimeError(PRIVATE)))
    with pytest.raises(WorkflowError, match="not today") as caught:
        await candidate(tape).start()
    (note,) = caught.value.__notes__
    assert "its end" in note
    assert PRIVATE not in note


async def test_a_cancelled_start_is_closed() -> None:
    started = asyncio.Event()

    class Slow(_TapeModule):
        async def start(self) -> None:
            started.set()
            await asyncio.Event().wait()

    tape = Tape()
    tape.module = Slow(tape)
    task = asyncio.create_task(candidate(tape).start())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tape.log == ["load", "close"]


STEPS: dict[str, Callable[[Candidate], Awaitable[object]]] = {
    "load": lambda one: one.load(),
    "start": lambda one: one.start(),
    "execute": lambda one: one.execute(ExecuteRequest(), RUN),
    "offers": lambda one: one.offers(),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(PRIVATE),
        SystemExit(PRIVATE),
        KeyboardInterrupt(PRIVATE),
        GeneratorExit(PRIVATE),
        asyncio.CancelledError(PRIVATE),
        TimeoutError(PRIVATE),
    ],
)
async def test_a_foreign_exception_is_the_providers_error_without_its_text(step: str, error: BaseException) -> None:
    with pytest.raises(ProviderError) as caught:
        await STEPS[step](candidate(Tape(**{step: raises(error)})))
    assert caught.value.provider == "music"
    assert type(error).__name__ in str(caught.value)
    assert "test_candidates.py:" in str(caught.value)
    assert PRIVATE not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [RuntimeError(PRIVATE), KeyboardInterrupt(PRIVATE)])
async def test_closing_that_fails_is_the_providers_error(error: BaseException) -> None:
    one = candidate(Tape(close=raises(error)))
    await one.load()
    with pytest.raises(ProviderError, match="its end"):
        await one.close()
    await one.close()


@pytest.mark.parametrize("step", STEPS)
async def test_an_error_of_the_contract_passes_as_it_is(step: str) -> None:
    error = UnavailableError("not yet")
    with pytest.raises(UnavailableError) as caught:
        await STEPS[step](candidate(Tape(**{step: raises(error)})))
    assert caught.value is error


async def test_what_is_of_a_wrong_type_is_the_providers_error() -> None:
    tape = Tape()
    tape.module = cast("Module", "no module")
    with pytest.raises(ProviderError, match="loading"):
        await candidate(tape).load()
    tape = Tape()
    module = _TapeModule(tape)
    module.result, tape.module = None, module
    with pytest.raises(ProviderError, match="an execution"):
        await candidate(tape).execute(ExecuteRequest(), RUN)

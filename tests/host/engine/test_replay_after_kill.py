"""A host that is killed in the middle of an execution, and the next one that goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.workflows.identity import execution_id
from innkeeper_sdk.capability import CapabilityRequest
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from tests.host.engine.engine_world import (
    WORKFLOW,
    ScriptedClock,
    World,
    answer,
    ask,
    forever,
    open_world,
    text,
    untext,
)

ROOT = Path(__file__).parents[3]

# What the killed host runs: it stops where `point` says, tells so on stdout, and waits to be killed.
HOST = """
import asyncio, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from tests.host.engine import test_replay_after_kill as this

asyncio.run(this.be_killed(Path(sys.argv[2]), sys.argv[3]))
"""


def guest(method: str, told: Path) -> object:
    """Return a guest that reads the time, makes a call, and then one with the method given."""

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        times = [await run.helper.don_time(), await run.helper.node_time(), await run.helper.don_time()]
        first = untext((await run.helper.call_capability(ask(0, "first"))).payload)
        run.helper.emit_log(f"attempt {run.attempt}")
        second = untext((await run.helper.call_capability(ask(1, f"second after {first}", method=method))).payload)
        with told.open("a") as file:
            file.write(f"{times}\n")
        return answer(f"{times} {first} {second}")

    return handler


def effects(directory: Path) -> list[str]:
    """Return the calls that reached the capability, of all hosts, in their order."""
    return (directory / "effects").read_text().splitlines()


def connect(world: World, directory: Path, *, hang: str = "") -> None:
    """Let the action of a host write down each call before it answers."""

    async def act(request: CapabilityRequest) -> AnyMessage:
        question = untext(request.payload)
        with (directory / "effects").open("a") as file:
            file.write(f"{request.method} {question} {request.idempotency_key}\n")
        if hang and question.startswith(hang):
            print("here", flush=True)
            await forever()
        return text(f"answer {len(effects(directory))}")

    world.action.on_call = act


async def be_killed(directory: Path, point: str) -> None:
    """Run a host that stops at a point."""

    async def acknowledged(event_id: str) -> None:
        print("here", flush=True)
        await forever()

    (directory / "effects").touch()
    async with open_world(directory, clock=ScriptedClock(wall=1_000_000_000_000)) as world:
        connect(world, directory, hang="second")
        if point == "acknowledging":
            world.trigger.on_ack = acknowledged
        await world.started(guest("Read" if point == "reading" else "Do", directory / "told"))  # type: ignore[arg-type] # a handler
        world.trigger.emit("event", "payload")
        await forever()


def kill_a_host(directory: Path, point: str) -> None:
    """Start a host, and kill it when it says that it is at the point."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST, str(ROOT), str(directory), point], stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        try:
            assert host.stdout.readline() == "here\n"
        finally:
            host.kill()
        assert host.wait(timeout=10) == -signal.SIGKILL


async def go_on(directory: Path, method: str) -> ExecutionRecord:
    """Start the next host, with another clock, and return how the execution ended."""
    async with open_world(directory, clock=ScriptedClock(wall=9_000_000_000_000)) as world:
        connect(world, directory)
        await world.started(guest(method, directory / "told"))  # type: ignore[arg-type] # a handler
        (record,) = await world.ended()
        assert world.trigger.acknowledged == []
        lines = [line.message for line in await world.stores.logs.lines(execution_id=record.execution_id)]
        assert lines == [f"attempt {record.attempt}"]
        return record


async def test_what_was_asked_and_answered_is_replayed_and_what_may_be_repeated_is(tmp_path: Path) -> None:
    kill_a_host(tmp_path, "reading")
    assert [line.split(" ")[:2] for line in effects(tmp_path)] == [["Do", "first"], ["Read", "second"]]

    record = await go_on(tmp_path, "Read")

    assert record.execution_id == execution_id(WORKFLOW, "event", 0)
    assert (record.status, record.attempt, record.error) == (ExecutionStatus.SUCCESS, 2, "")
    first, second, repeated = effects(tmp_path)
    assert first.startswith("Do first ")
    assert second == repeated
    # The times are those of the first host's clock: the guest was told them already.
    times = [1_000_000_000_000, 1_000_000_000_000, 1_000_001_000_000]
    assert ExecutionResult.FromString(record.result) == answer(f"{times} answer 1 answer 3")


async def test_what_may_not_be_repeated_is_not_and_the_execution_is_in_doubt(tmp_path: Path) -> None:
    kill_a_host(tmp_path, "doing")

    record = await go_on(tmp_path, "Do")

    assert (record.status, record.attempt) == (ExecutionStatus.IN_DOUBT, 2)
    assert "call 1 was made, its answer was lost" in record.error
    assert len(effects(tmp_path)) == 2
    assert not (tmp_path / "told").exists()


async def test_an_event_that_was_stored_and_not_tried_is_tried_by_the_next_host(tmp_path: Path) -> None:
    kill_a_host(tmp_path, "acknowledging")
    assert effects(tmp_path) == []

    record = await go_on(tmp_path, "Do")

    assert (record.status, record.attempt) == (ExecutionStatus.SUCCESS, 1)
    assert len(effects(tmp_path)) == 2

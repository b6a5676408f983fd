"""Lines of an execution on their way to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.engine import logs as log_module
from innkeeper.engine.logs import LogBuffer
from innkeeper.store.logs import LogLine
from tests.host.engine.engine_world import ScriptedClock


def buffer(
    *, line_bytes: int = 1000, lines: int = 1000, write: Callable[[Sequence[LogLine]], None] | None = None
) -> LogBuffer:
    return LogBuffer(
        workflow_id="w", execution_id="e", line_bytes=line_bytes, lines=lines, clock=ScriptedClock(), write=write
    )


def messages(logs: LogBuffer) -> list[str]:
    return [line.message for line in logs.take()]


def test_lines_are_numbered_and_dated() -> None:
    logs = buffer()
    logs.emit("a")
    logs.emit("b")
    now = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    assert logs.take() == [LogLine("w", "e", 0, now, "a"), LogLine("w", "e", 1, now, "b")]
    logs.emit("c")
    assert [line.line for line in logs.take()] == [2]


def test_a_line_of_the_limits_length_is_whole_and_a_longer_one_is_cut_and_says_so() -> None:
    logs = buffer(line_bytes=3)
    logs.emit("abc")
    logs.emit("abcd")
    assert messages(logs) == ["abc", "abc ...(truncated)"]


def test_a_line_is_never_cut_inside_a_character() -> None:
    logs = buffer(line_bytes=4)
    logs.emit("aé€")
    assert messages(logs) == ["aé ...(truncated)"]


def test_lines_above_the_limit_are_dropped_and_counted() -> None:
    logs = buffer(lines=2)
    for number in range(5):
        logs.emit(str(number))
    assert messages(logs) == ["0", "1"]
    assert logs.dropped == 3
    logs.lost(2)
    assert logs.dropped == 5


@given(st.text(alphabet=st.characters(codec=None, categories=None)), st.integers(1, 20))
def test_any_text_becomes_a_line_that_can_be_stored(text: str, limit: int) -> None:
    logs = buffer(line_bytes=limit)
    logs.emit(text)
    (message,) = messages(logs)
    encoded = message.encode("utf-8")
    assert b"\x00" not in encoded
    assert len(encoded) <= limit + len(" ...(truncated)")


async def test_lines_of_a_long_execution_are_written_while_it_runs_in_batches() -> None:
    written: asyncio.Queue[list[str]] = asyncio.Queue()
    logs = buffer(write=lambda lines: written.put_nowait([line.message for line in lines]))
    logs.emit("a")
    logs.emit("b")
    assert written.empty()
    assert await asyncio.wait_for(written.get(), 5) == ["a", "b"]
    logs.emit("c")
    assert await asyncio.wait_for(written.get(), 5) == ["c"]
    assert logs.take() == []


async def test_what_was_taken_is_not_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_DELAY", 0.0)
    written: list[object] = []
    logs = buffer(write=written.append)
    logs.emit("a")
    assert len(logs.take()) == 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert written == []
    logs.emit("b")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(written) == 1

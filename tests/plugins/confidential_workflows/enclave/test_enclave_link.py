"""The enclave's questions to its parent, and what is made of the answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import define

from innkeeper_confidential_workflows.enclave.channel import FrameChannel
from innkeeper_confidential_workflows.enclave.frames import (
    MAX_CHUNK_BYTES,
    MAX_FRAME_BYTES,
    Answer,
    Ask,
    Cancel,
    Chunk,
    FrameError,
    Read,
    Refusal,
)
from innkeeper_confidential_workflows.enclave.link import HostLink
from innkeeper_sdk.capability import CapabilityError, ErrorCode

WHO = {"workflow_id": "11" * 32, "owner": "22" * 20, "execution_id": "33" * 32}


@define
class Ends:
    link: HostLink
    parent: FrameChannel
    enclave: FrameChannel

    async def question(self) -> Any:
        async with asyncio.timeout(20):
            return await self.parent.receive()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    left, right = socket.socketpair()
    enclave, parent = await FrameChannel.open(left), await FrameChannel.open(right)
    yield Ends(HostLink(enclave), parent, enclave)
    await enclave.close()
    await parent.close()


async def test_a_question_says_for_whom_it_is_and_gets_its_answer(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.ask("Clock", b"payload", **WHO))
    question = await ends.question()
    assert question == Ask(id=question.id, method="Clock", payload=b"payload", **WHO)
    ends.link.take(Answer(id=question.id, payload=b"answer"))
    assert await task == b"answer"


async def test_answers_may_come_in_another_order(ends: Ends) -> None:
    tasks = [asyncio.create_task(ends.link.read("l", offset)) for offset in range(3)]
    questions = [await ends.question() for _ in tasks]
    assert questions == [Read(id=question.id, locator="l", offset=number) for number, question in enumerate(questions)]
    for question in reversed(questions):
        ends.link.take(Chunk(id=question.id, data=b"", size=question.offset))
    assert [(await task).size for task in tasks] == [0, 1, 2]


async def test_a_refusal_is_an_error_of_four_parts(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.ask("Clock", b"", **WHO))
    question = await ends.question()
    ends.link.take(Refusal(id=question.id, error="Public:User:LimitExceeded:a: b"))
    with pytest.raises(CapabilityError, match="a: b") as caught:
        await task
    assert caught.value.error_code is ErrorCode.LimitExceeded


async def test_an_answer_of_another_kind_is_an_error(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.ask("Clock", b"", **WHO))
    question = await ends.question()
    ends.link.take(Chunk(id=question.id, data=b"", size=0))
    with pytest.raises(CapabilityError, match="another question"):
        await task


@pytest.mark.parametrize(
    "frame",
    [Answer(id=99, payload=b""), Refusal(id=99, error=""), Cancel(id=1)],
    ids=["unknown answer", "unknown refusal", "no answer"],
)
async def test_what_answers_nothing_ends_the_conversation(ends: Ends, frame: Any) -> None:
    with pytest.raises(FrameError):
        ends.link.take(frame)


async def test_a_second_answer_ends_the_conversation(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.ask("Clock", b"", **WHO))
    question = await ends.question()
    ends.link.take(Answer(id=question.id, payload=b"1"))
    assert await task == b"1"
    with pytest.raises(FrameError, match="answers no question"):
        ends.link.take(Answer(id=question.id, payload=b"2"))


async def test_a_chunk_that_is_too_large_ends_the_conversation(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.read("l", 0))
    question = await ends.question()
    with pytest.raises(FrameError, match="at most"):
        ends.link.take(Chunk(id=question.id, data=bytes(MAX_CHUNK_BYTES + 1), size=1))
    task.cancel()


async def test_the_answer_to_what_nobody_waits_for_any_more_is_dropped_once(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.ask("Clock", b"", **WHO))
    question = await ends.question()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ends.link.take(Answer(id=question.id, payload=b""))
    with pytest.raises(FrameError):
        ends.link.take(Answer(id=question.id, payload=b""))


async def test_the_end_of_the_conversation_fails_what_is_open(ends: Ends) -> None:
    task = asyncio.create_task(ends.link.ask("Clock", b"", **WHO))
    await ends.question()
    ends.link.close()
    with pytest.raises(CapabilityError) as caught:
        await task
    assert caught.value.error_code is ErrorCode.Unavailable


async def test_a_question_that_no_frame_holds_is_refused_and_others_go_on(ends: Ends) -> None:
    with pytest.raises(CapabilityError) as caught:
        await ends.link.ask("Clock", bytes(MAX_FRAME_BYTES), **WHO)
    assert caught.value.error_code is ErrorCode.ResourceExhausted
    task = asyncio.create_task(ends.link.ask("Clock", b"", **WHO))
    question = await ends.question()
    ends.link.take(Answer(id=question.id, payload=b"x"))
    assert await task == b"x"

"""The journal of an attempt: what it records, and how it replays that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.engine.errors import InDoubtError, ReplayDivergenceError
from innkeeper.engine.journal import Answer, CallId, Journal
from innkeeper.store.errors import StoreClosedError
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.store.journal import EntryKind, JournalEntry, Phase
from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin
from innkeeper_sdk.errors import InnkeeperError, WorkflowError
from tests.host.engine.engine_world import WORKFLOW, World, text, untext

ID = "ab" * 32
D1, D2 = b"1" * 32, b"2" * 32


@pytest.fixture(autouse=True)
async def execution(world: World) -> None:
    record = ExecutionRecord(ID, WORKFLOW, 0, "e", ExecutionStatus.ACCEPTED, datetime(2026, 1, 1, tzinfo=UTC))
    await world.stores.executions.accept(record, b"")


class Numbers:
    """A clock that counts."""

    def __init__(self, first: int) -> None:
        self._numbers: Iterator[int] = iter(range(first, first + 100))

    def __call__(self) -> int:
        return next(self._numbers)


async def replay(world: World) -> Journal:
    return Journal(world.stores.database, ID, await world.stores.journal.load(ID))


async def test_a_call_is_durable_before_it_leaves_with_everything_before_it(world: World) -> None:
    journal = Journal(world.stores.database, ID)
    journal.number(EntryKind.DON_TIME, Numbers(7), lambda value: value)
    journal.secrets(CallId(1), D2)
    assert await world.stores.journal.load(ID) == []
    assert journal.find(CallId(1), D1) is None
    await journal.started(CallId(1), D1, idempotent=False)
    assert await world.stores.journal.load(ID) == [
        JournalEntry(0, EntryKind.DON_TIME, value=(7).to_bytes(8, "big")),
        JournalEntry(1, EntryKind.SECRETS, 1, D2),
        JournalEntry(2, EntryKind.STARTED, 1, D1),
    ]
    journal.close()


async def test_an_answer_is_stored_without_waiting_and_the_next_call_waits_for_it(world: World) -> None:
    journal = Journal(world.stores.database, ID)
    journal.find(CallId(1), D1)
    await journal.started(CallId(1), D1, idempotent=False)
    journal.answered(CallId(1), D1, Answer(payload=text("yes")))
    journal.find(CallId(2), D2)
    await journal.started(CallId(2), D2, idempotent=True)
    kinds = [(entry.kind, entry.callback_id, entry.idempotent) for entry in await world.stores.journal.load(ID)]
    assert kinds == [
        (EntryKind.STARTED, 1, False),
        (EntryKind.ANSWERED, 1, False),
        (EntryKind.STARTED, 2, True),
    ]
    journal.close()


async def test_replay_tells_the_same_times_and_seed_then_new_ones(world: World) -> None:
    first = Journal(world.stores.database, ID)
    kinds = (EntryKind.DON_TIME, EntryKind.NODE_TIME, EntryKind.NODE_SEED)
    told = [first.number(kind, Numbers(10)) for kind in kinds]
    await first.settle()
    again = await replay(world)
    seen: list[int] = []

    def note(value: int) -> int:
        seen.append(value)
        return value

    assert [again.number(kind, Numbers(99), note) for kind in kinds] == told
    assert seen == told
    assert again.number(EntryKind.DON_TIME, Numbers(99), note) == 99
    for journal in (first, again):
        journal.close()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(payload=text("yes")),
        Answer(payload=AnyMessage()),
        Answer(error=InnkeeperError("capability x not found")),
        Answer(
            error=CapabilityError(
                "too: many: colons",
                error_code=ErrorCode.LimitExceeded,
                origin=Origin.USER,
                visibility=ErrorVisibility.PRIVATE,
            )
        ),
    ],
)
async def test_replay_gives_the_answer_that_was_given(world: World, answer: Answer) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    await first.started(CallId(1), D1, idempotent=False)
    first.answered(CallId(1), D1, answer)
    await first.settle()
    again = await replay(world)
    found = again.find(CallId(1), D1)
    assert found is not None
    assert found.payload == answer.payload
    assert type(found.error) is type(answer.error)
    assert str(found.error) == str(answer.error)
    if isinstance(answer.error, CapabilityError) and isinstance(found.error, CapabilityError):
        assert found.error.serialize() == answer.error.serialize()
    again.check_replayed()
    for journal in (first, again):
        journal.close()


@given(st.binary(max_size=200))
def test_any_payload_survives_its_encoding(value: bytes) -> None:
    answer = Answer(payload=AnyMessage(type_url="t", value=value))
    assert Answer.decode(answer.encode()) == answer


async def test_a_refusal_that_never_left_is_replayed_too(world: World) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    first.answered(CallId(1), D1, Answer(error=InnkeeperError("not found")))
    await first.settle()
    again = await replay(world)
    found = again.find(CallId(1), D1)
    assert found is not None
    with pytest.raises(InnkeeperError, match="not found"):
        found.unwrap()
    again.check_replayed()
    for journal in (first, again):
        journal.close()


async def test_another_digest_for_a_journalled_call_is_a_divergence_and_ends_the_attempt(world: World) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    await first.started(CallId(1), D1, idempotent=True)
    first.answered(CallId(1), D1, Answer(payload=text("yes")))
    await first.settle()
    again = await replay(world)
    with pytest.raises(ReplayDivergenceError, match="call 1 asks for something else"):
        again.find(CallId(1), D2)
    with pytest.raises(ReplayDivergenceError):
        await again.fault
    for journal in (first, again):
        journal.close()


async def test_other_secrets_than_before_are_a_divergence(world: World) -> None:
    first = Journal(world.stores.database, ID)
    first.secrets(CallId(1), D1)
    await first.settle()
    again = await replay(world)
    with pytest.raises(ReplayDivergenceError, match="other secrets"):
        again.secrets(CallId(1), D2)
    same = await replay(world)
    same.secrets(CallId(1), D1)
    assert not same.fault.done()
    for journal in (first, again, same):
        journal.close()


async def test_an_unanswered_call_that_may_not_be_repeated_is_in_doubt_and_ends_the_attempt(world: World) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    await first.started(CallId(1), D1, idempotent=False)
    assert first.unanswered() == [CallId(1)]
    again = await replay(world)
    assert again.unanswered() == [CallId(1)]
    with pytest.raises(InDoubtError, match="its effect is unknown"):
        again.find(CallId(1), D1)
    with pytest.raises(InDoubtError):
        await again.fault
    for journal in (first, again):
        journal.close()


async def test_an_unanswered_call_that_is_idempotent_is_repeated_and_recorded_once(world: World) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    await first.started(CallId(1), D1, idempotent=True)
    assert first.unanswered() == []
    again = await replay(world)
    assert again.find(CallId(1), D1) is None
    await again.started(CallId(1), D1, idempotent=True)
    again.answered(CallId(1), D1, Answer(payload=text("yes")))
    await again.settle()
    kinds = [entry.kind for entry in await world.stores.journal.load(ID)]
    assert kinds == [EntryKind.STARTED, EntryKind.ANSWERED]
    third = await replay(world)
    found = third.find(CallId(1), D1)
    assert found is not None
    assert untext(found.unwrap()) == "yes"
    for journal in (first, again, third):
        journal.close()


async def test_what_was_declared_when_a_call_was_made_decides_not_what_is_declared_now(world: World) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    await first.started(CallId(1), D1, idempotent=False)
    again = await replay(world)
    with pytest.raises(InDoubtError):
        again.find(CallId(1), D1)
    for journal in (first, again):
        journal.close()


@pytest.mark.parametrize(("answered", "error"), [(True, ReplayDivergenceError), (False, InDoubtError)])
async def test_an_attempt_that_does_not_repeat_a_call_is_found_out_at_its_end(
    world: World, answered: bool, error: type[Exception]
) -> None:
    first = Journal(world.stores.database, ID)
    first.find(CallId(1), D1)
    await first.started(CallId(1), D1, idempotent=False)
    if answered:
        first.answered(CallId(1), D1, Answer(payload=text("yes")))
    await first.settle()
    again = await replay(world)
    with pytest.raises(error, match="call 1"):
        again.check_replayed()
    for journal in (first, again):
        journal.close()


async def test_an_id_is_used_once_in_an_attempt_for_calls_and_once_for_secrets(world: World) -> None:
    journal = Journal(world.stores.database, ID)
    journal.find(CallId(1), D1)
    journal.secrets(CallId(1), D1)
    with pytest.raises(WorkflowError, match="callback id 1 is used twice"):
        journal.find(CallId(1), D1)
    with pytest.raises(WorkflowError, match="callback id 1 is used twice"):
        journal.secrets(CallId(1), D1)
    assert not journal.fault.done()
    journal.close()


async def test_a_pre_hook_numbers_its_calls_anew(world: World) -> None:
    hook = CallId(1, Phase.PRE_HOOK)
    first = Journal(world.stores.database, ID)
    first.find(hook, D1)
    await first.started(hook, D1, idempotent=False)
    first.answered(hook, D1, Answer(payload=text("of the hook")))
    first.secrets(hook, D1)
    first.find(CallId(1), D2)
    first.secrets(CallId(1), D2)
    await first.started(CallId(1), D2, idempotent=False)
    await first.settle()
    again = await replay(world)
    found = again.find(hook, D1)
    assert found is not None
    assert untext(found.unwrap()) == "of the hook"
    again.secrets(hook, D1)
    again.secrets(CallId(1), D2)
    with pytest.raises(InDoubtError, match="call 1 was made"):
        again.find(CallId(1), D2)
    with pytest.raises(ReplayDivergenceError, match="call 1 of the pre-hook"):
        (await replay(world)).find(hook, D2)
    for journal in (first, again):
        journal.close()


async def test_a_journal_that_cannot_be_kept_lets_no_call_out_and_ends_the_attempt(world: World) -> None:
    journal = Journal(world.stores.database, "cd" * 32)  # no such execution: a reference to nothing
    journal.find(CallId(1), D1)
    with pytest.raises(InnkeeperError, match="FOREIGN KEY"):
        await journal.started(CallId(1), D1, idempotent=False)
    with pytest.raises(InnkeeperError, match="FOREIGN KEY"):
        await journal.fault
    journal.close()


async def test_an_answer_that_cannot_be_kept_stops_the_next_call(world: World) -> None:
    journal = Journal(world.stores.database, ID)
    journal.find(CallId(1), D1)
    await journal.started(CallId(1), D1, idempotent=False)
    await world.stores.database.write(lambda connection: connection.exec_driver_sql("DELETE FROM executions"))
    journal.answered(CallId(1), D1, Answer(payload=text("yes")))
    journal.find(CallId(2), D2)
    with pytest.raises(InnkeeperError, match="FOREIGN KEY"):
        await journal.started(CallId(2), D2, idempotent=True)
    journal.close()


async def test_a_closed_store_lets_no_call_out(world: World) -> None:
    journal = Journal(world.stores.database, ID)
    await world.stores.database.close()
    journal.find(CallId(1), D1)
    with pytest.raises(StoreClosedError):
        await journal.started(CallId(1), D1, idempotent=False)
    journal.close()
    with pytest.raises(asyncio.CancelledError):
        await journal.fault

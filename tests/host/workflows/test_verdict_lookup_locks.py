"""Small parts of keeping workflows: what a failure means, which one is meant, one thing at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from attrs import evolve

from innkeeper.engine.errors import TriggerRegistrationError
from innkeeper.store.errors import DatabaseError
from innkeeper.store.specs import SpecHeader, SpecStatus
from innkeeper.workflows.locks import Locks
from innkeeper.workflows.lookup import find
from innkeeper.workflows.verdict import Verdict, judge
from innkeeper.workflows.views import WorkflowState
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.errors import (
    ConfigError,
    ConflictError,
    DeadlineExceededError,
    InnkeeperError,
    LimitExceededError,
    NotFoundError,
    ProviderError,
    UnavailableError,
    VerificationError,
    WorkflowError,
)


def refused(cause: Exception) -> TriggerRegistrationError:
    error = TriggerRegistrationError("failed to register trigger 0")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("not ready"),
        CapabilityError("not ready", error_code=ErrorCode.Unavailable),
        refused(CapabilityError("not ready", error_code=ErrorCode.Unavailable)),
        refused(UnavailableError("not ready")),
    ],
)
def test_what_needs_something_that_is_not_ready_is_deferred_and_tried_again(error: Exception) -> None:
    assert judge(error) == Verdict(WorkflowState.DEFERRED, retry=True, reason=str(error))


@pytest.mark.parametrize(
    "error",
    [
        WorkflowError("bad binary"),
        VerificationError("workflowID mismatch"),
        LimitExceededError("too many"),
        ConfigError("bad"),
        ConflictError("invariant violation"),
        refused(CapabilityError("bad schedule", error_code=ErrorCode.InvalidArgument, origin=Origin.USER)),
    ],
)
def test_what_is_wrong_with_the_workflow_is_failed_and_not_tried_again(error: Exception) -> None:
    verdict = judge(error)
    assert (verdict.state, verdict.retry, verdict.reason) == (WorkflowState.FAILED, False, str(error))
    assert verdict.wants_place == isinstance(error, LimitExceededError)


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("crashed"),
        DatabaseError("locked"),
        DeadlineExceededError("slow"),
        NotFoundError("no such thing"),
        InnkeeperError("something"),
        refused(NotFoundError("capability x@1.0.0 not found")),
        refused(CapabilityError("broken", error_code=ErrorCode.Internal)),
        refused(TimeoutError()),
    ],
)
def test_everything_else_is_failed_and_tried_again(error: Exception) -> None:
    verdict = judge(error)
    assert (verdict.state, verdict.retry) == (WorkflowState.FAILED, True)


def test_the_text_of_a_foreign_error_goes_nowhere() -> None:
    assert judge(ValueError("geheim")) == Verdict(
        WorkflowState.FAILED, retry=True, reason="the host is at fault: ValueError"
    )


HEADER = SpecHeader(
    workflow_id="00aa" + "0" * 60,
    owner="22" * 20,
    name="clock",
    tag="",
    kind="k",
    status=SpecStatus.ACTIVE,
    attributes=b"",
    binary_url="",
    source="s",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 1, tzinfo=UTC),
)
OTHER = evolve(HEADER, workflow_id="00bb" + "0" * 60, name="median")
FOREIGN = evolve(HEADER, workflow_id="00ab" + "0" * 60, owner="33" * 20)


@pytest.mark.parametrize("text", [HEADER.workflow_id, HEADER.workflow_id.upper(), "00aa", "00aa00"])
def test_a_workflow_is_found_by_its_id_or_a_beginning_of_it(text: str) -> None:
    assert find([HEADER, OTHER], text) is HEADER


def test_a_workflow_is_found_by_its_name_among_the_owners() -> None:
    assert find([HEADER, OTHER], "clock") is HEADER
    assert find([HEADER, FOREIGN], "clock", owner="0x" + "33" * 20) is FOREIGN


def test_a_name_goes_before_the_beginning_of_an_id() -> None:
    named = evolve(OTHER, name="00aa")
    assert find([HEADER, named], "00aa") is named


@pytest.mark.parametrize("text", ["clock", "00a0"[:3] + "a"])
def test_several_that_may_be_meant_are_an_error_that_lists_them(text: str) -> None:
    candidates = [HEADER, evolve(FOREIGN, workflow_id="00aa" + "1" * 60)]
    with pytest.raises(ConflictError, match=f"{HEADER.workflow_id} of owner {'22' * 20}, 00aa1"):
        find(candidates, text)


@pytest.mark.parametrize(("text", "owner"), [("", ""), ("nothing", ""), ("00a", ""), ("clock", "33" * 20)])
def test_none_that_may_be_meant_is_an_error(text: str, owner: str) -> None:
    with pytest.raises(NotFoundError, match="there is no workflow"):
        find([HEADER, OTHER], text, owner)


async def test_one_key_is_held_by_one_at_a_time_and_forgotten_after() -> None:
    locks, order = Locks(), []

    async def hold(key: str, number: int) -> None:
        async with locks.hold("owner", key):
            order.append((key, number, "in"))
            await asyncio.sleep(0)
            order.append((key, number, "out"))

    await asyncio.gather(hold("a", 1), hold("a", 2), hold("b", 3))
    alone = [entry for entry in order if entry[0] == "a"]
    assert alone == [("a", 1, "in"), ("a", 1, "out"), ("a", 2, "in"), ("a", 2, "out")]
    assert order.index(("b", 3, "in")) < order.index(("a", 1, "out"))
    assert len(locks) == 0

"""Nothing runs twice, and what has run can be asked for again."""

from __future__ import annotations

import pytest

from innkeeper_confidential_workflows.enclave.reservations import Key, Reservations
from innkeeper_sdk.capability import CapabilityError, ErrorCode

ONE, OTHER = bytes(32), bytes([1]) * 32


def key(number: int = 1, phase: str = "trigger") -> Key:
    return Key("11" * 32, f"{number:064x}", phase)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(reservations: Reservations, which: Key, sha256: bytes) -> CapabilityError:
    with pytest.raises(CapabilityError) as caught:
        reservations.reserve(which, sha256)
    return caught.value


def test_a_new_execution_is_to_be_run() -> None:
    assert Reservations(Clock()).reserve(key(), ONE) is None


@pytest.mark.parametrize("sha256", [ONE, OTHER])
def test_a_running_execution_is_refused_whoever_asks(sha256: bytes) -> None:
    reservations = Reservations(Clock())
    reservations.reserve(key(), ONE)
    error = refused(reservations, key(), sha256)
    assert error.message == "replayed: the execution is running"
    assert error.error_code is ErrorCode.Aborted


def test_an_executed_one_answers_the_identical_request_with_the_same_bytes() -> None:
    reservations = Reservations(Clock())
    reservations.reserve(key(), ONE)
    reservations.executed(key(), b"result")
    assert reservations.reserve(key(), ONE) == b"result"
    assert reservations.reserve(key(), ONE) == b"result"


def test_an_executed_one_refuses_another_request() -> None:
    reservations = Reservations(Clock())
    reservations.reserve(key(), ONE)
    reservations.executed(key(), b"result")
    error = refused(reservations, key(), OTHER)
    assert "another request" in error.message
    assert error.error_code is ErrorCode.AlreadyExists


def test_a_failed_one_may_be_tried_again() -> None:
    reservations = Reservations(Clock())
    reservations.reserve(key(), ONE)
    reservations.failed(key())
    assert reservations.reserve(key(), OTHER) is None


def test_executions_workflows_and_phases_are_apart() -> None:
    reservations = Reservations(Clock())
    for which in (key(1), key(2), key(1, "pre_hook"), Key("22" * 32, key(1).execution_id, "trigger")):
        assert reservations.reserve(which, ONE) is None


def test_a_full_table_refuses_and_forgets_nothing() -> None:
    reservations = Reservations(Clock(), capacity=2)
    reservations.reserve(key(1), ONE)
    reservations.executed(key(1), b"1")
    reservations.reserve(key(2), ONE)
    error = refused(reservations, key(3), ONE)
    assert error.message.startswith("rate_limited: ")
    assert error.error_code is ErrorCode.ResourceExhausted
    assert reservations.reserve(key(1), ONE) == b"1"
    reservations.failed(key(2))
    assert reservations.reserve(key(3), ONE) is None


def test_what_is_over_for_a_day_is_forgotten_and_what_runs_is_not() -> None:
    clock = Clock()
    reservations = Reservations(clock, capacity=2, seconds=10)
    reservations.reserve(key(1), ONE)
    reservations.reserve(key(2), ONE)
    clock.now = 5
    reservations.executed(key(1), b"1")
    clock.now = 14.9
    assert reservations.reserve(key(1), ONE) == b"1"
    clock.now = 15
    assert reservations.reserve(key(1), OTHER) is None
    assert "running" in refused(reservations, key(2), ONE).message


def test_results_are_kept_within_their_bound_and_that_they_ran_is_known_still() -> None:
    reservations = Reservations(Clock(), result_bytes=10)
    for number, result in ((1, b"12345"), (2, b"12345"), (3, b"1")):
        reservations.reserve(key(number), ONE)
        reservations.executed(key(number), result)
    error = refused(reservations, key(1), ONE)
    assert "not kept any more" in error.message
    assert error.error_code is ErrorCode.AlreadyExists
    assert reservations.reserve(key(2), ONE) == b"12345"
    assert reservations.reserve(key(3), ONE) == b"1"


def test_a_result_larger_than_the_bound_is_not_kept() -> None:
    reservations = Reservations(Clock(), result_bytes=3)
    reservations.reserve(key(), ONE)
    reservations.executed(key(), b"1234")
    assert "not kept" in refused(reservations, key(), ONE).message


def test_room_of_forgotten_results_is_free_again() -> None:
    clock = Clock()
    reservations = Reservations(clock, seconds=10, result_bytes=4)
    reservations.reserve(key(1), ONE)
    reservations.executed(key(1), b"1234")
    clock.now = 11
    for number in (2, 3):
        reservations.reserve(key(number), ONE)
        reservations.executed(key(number), b"12")
    assert reservations.reserve(key(2), ONE) == b"12"
    assert reservations.reserve(key(3), ONE) == b"12"

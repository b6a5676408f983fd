"""Challenges: one purpose, one execution, once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import (
    CapabilityBody,
    Challenge,
    Challenges,
    Purpose,
    ResultBody,
    SecretsBody,
)
from tests.plugins.confidential_workflows.protocol.protocol_world import EXECUTION, WORKFLOW, Clock


@pytest.fixture
def challenges(clock: Clock) -> Challenges:
    return Challenges(clock, monotonic=clock.monotonic)


def issue(challenges: Challenges, **changes: Any) -> Challenge:
    return challenges.issue(
        **{"workflow_id": WORKFLOW, "execution_id": EXECUTION, "purpose": Purpose.SECRETS, **changes}
    )


def consume(challenges: Challenges, issued: Challenge, **changes: Any) -> None:
    given = {
        "id_": issued.id,
        "nonce": issued.nonce,
        "workflow_id": WORKFLOW,
        "execution_id": EXECUTION,
        "purpose": Purpose.SECRETS,
        **changes,
    }
    nonce = given.pop("nonce")
    challenges.take(**given).match(nonce)


def refused(challenges: Challenges, issued: Challenge, **changes: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        consume(challenges, issued, **changes)
    return caught.value.code


def test_a_challenge_is_good_once(challenges: Challenges) -> None:
    issued = issue(challenges)
    assert (len(issued.id), len(issued.nonce)) == (16, 32)
    consume(challenges, issued)
    assert refused(challenges, issued) is Code.REPLAYED


WRONG = [
    {"nonce": b"\x00" * 32},
    {"nonce": b""},
    {"workflow_id": "a2" * 32},
    {"execution_id": "e2" * 32},
    {"execution_id": ""},
    {"purpose": Purpose.CAPABILITY},
]


@pytest.mark.parametrize("change", WRONG, ids=lambda change: next(iter(change)))
def test_a_failed_try_uses_it_up(challenges: Challenges, change: dict[str, Any]) -> None:
    issued = issue(challenges)
    assert refused(challenges, issued, **change) is Code.NONCE_MISMATCH
    assert refused(challenges, issued) is Code.REPLAYED


def test_the_nonce_of_one_challenge_does_not_fit_another(challenges: Challenges) -> None:
    one, other = issue(challenges), issue(challenges)
    assert refused(challenges, one, nonce=other.nonce) is Code.NONCE_MISMATCH
    consume(challenges, other)


def test_an_unknown_challenge_is_refused(challenges: Challenges) -> None:
    issued = issue(challenges)
    assert refused(challenges, issued, id_=b"\x00" * 16) is Code.NONCE_MISMATCH
    consume(challenges, issued)


def test_a_challenge_of_an_earlier_process_is_unknown(challenges: Challenges, clock: Clock) -> None:
    unused, used = issue(challenges), issue(challenges)
    consume(challenges, used)
    restarted = Challenges(clock, monotonic=clock.monotonic)
    assert refused(restarted, unused) is Code.NONCE_MISMATCH
    assert refused(restarted, used) is Code.NONCE_MISMATCH


def test_it_lives_for_sixty_seconds(challenges: Challenges, clock: Clock) -> None:
    issued, late = issue(challenges), issue(challenges)
    assert issued.expires_ms == int(clock.now.timestamp() * 1000) + 60_000
    clock.forward(59.9)
    consume(challenges, issued)
    clock.forward(0.1)
    assert refused(challenges, late) is Code.NONCE_MISMATCH


def test_setting_the_wall_clock_back_keeps_none_alive(clock: Clock) -> None:
    steady = Clock()
    challenges = Challenges(clock, monotonic=steady.monotonic)
    issued = issue(challenges)
    steady.forward(61)
    clock.forward(-3600)
    assert refused(challenges, issued) is Code.NONCE_MISMATCH


def test_setting_the_wall_clock_forward_ends_it(clock: Clock) -> None:
    challenges = Challenges(clock, monotonic=Clock().monotonic)
    issued = issue(challenges)
    clock.forward(60)
    assert refused(challenges, issued) is Code.NONCE_MISMATCH


def test_of_many_that_race_for_one_exactly_one_gets_it(challenges: Challenges) -> None:
    racers = 16
    for _ in range(20):
        issued = issue(challenges)
        start = threading.Barrier(racers)

        def race(issued: Challenge = issued, start: threading.Barrier = start) -> Code | None:
            start.wait()
            try:
                consume(challenges, issued)
            except AttestationError as error:
                return error.code
            return None

        with ThreadPoolExecutor(racers) as pool:
            results = [future.result() for future in [pool.submit(race) for _ in range(racers)]]
        assert sorted(map(str, results)) == ["None", *["replayed"] * (racers - 1)]


def test_a_full_table_refuses_and_forgets_none_that_is_live(clock: Clock) -> None:
    challenges = Challenges(clock, capacity=3, monotonic=clock.monotonic)
    live = [issue(challenges) for _ in range(3)]
    with pytest.raises(AttestationError) as caught:
        issue(challenges)
    assert caught.value.code is Code.RATE_LIMITED
    for issued in live:
        consume(challenges, issued)
    again = issue(challenges)
    clock.forward(61)
    for _ in range(3):
        issue(challenges)
    assert refused(challenges, again) is Code.NONCE_MISMATCH


def test_forgetting_used_ones_opens_none_again(clock: Clock) -> None:
    challenges = Challenges(clock, capacity=2, monotonic=clock.monotonic)
    first = issue(challenges)
    consume(challenges, first)
    for _ in range(5):
        consume(challenges, issue(challenges))
    assert refused(challenges, first) is Code.NONCE_MISMATCH


@pytest.mark.parametrize(
    "change", [{"workflow_id": "A1" * 32}, {"workflow_id": ""}, {"execution_id": "x"}, {"purpose": 0}, {"purpose": 4}]
)
def test_it_is_handed_out_for_good_ids_and_purposes_only(challenges: Challenges, change: dict[str, Any]) -> None:
    with pytest.raises(AttestationError) as caught:
        issue(challenges, **change)
    assert caught.value.code is Code.MALFORMED


def test_a_workflow_that_subscribes_has_challenges_without_an_execution(challenges: Challenges) -> None:
    consume(challenges, issue(challenges, execution_id=""), execution_id="")


def test_each_body_has_its_purpose() -> None:
    purposes = [Purpose.for_body(kind) for kind in (SecretsBody, CapabilityBody, ResultBody)]
    assert purposes == [Purpose.SECRETS, Purpose.CAPABILITY, Purpose.RESULT]


def test_nonces_are_not_kept_and_not_shown(challenges: Challenges) -> None:
    issued = issue(challenges)
    assert repr(issued.nonce) not in repr(issued)
    assert repr(issued.nonce) not in repr(vars(challenges))
    assert issued.nonce != issue(challenges).nonce

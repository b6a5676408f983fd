"""The life of a process as a table."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.loop.health import Verdict, judge
from innkeeper.loop.machine import Effect, Event, Restarts, step
from innkeeper.loop.plans import RestartPolicy
from innkeeper.loop.states import ProcessState

OVER = (ProcessState.FAILED, ProcessState.UNSUPPORTED, ProcessState.QUARANTINED)


def run(*events: Event) -> tuple[ProcessState, list[Effect]]:
    state, all_effects = ProcessState.STARTING, [Effect.LAUNCH]
    for event in events:
        state, effects = step(state, event)
        all_effects += effects
    return state, all_effects


def test_it_is_launched_and_becomes_ready() -> None:
    assert run(Event.READY) == (ProcessState.READY, [Effect.LAUNCH, Effect.SETTLE])


@pytest.mark.parametrize("before", [(), (Event.READY,), (Event.READY, Event.LATE)])
def test_what_falls_is_abandoned_and_reaped_before_it_is_launched_again(before: tuple[Event, ...]) -> None:
    state, effects = run(*before, Event.FELL, Event.REAPED, Event.LAUNCH)
    assert state is ProcessState.STARTING
    assert effects[-4:] == [Effect.ABANDON, Effect.REAP, Effect.PAUSE, Effect.LAUNCH]


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Event.HOPELESS, ProcessState.FAILED),
        (Event.REFUSED, ProcessState.UNSUPPORTED),
        (Event.SPENT, ProcessState.QUARANTINED),
    ],
)
def test_what_starting_again_does_not_cure_is_not_started_again(event: Event, state: ProcessState) -> None:
    assert run(event, Event.REAPED, Event.LAUNCH) == (
        state,
        [Effect.LAUNCH, Effect.ABANDON, Effect.REAP, Effect.SETTLE],
    )


def test_a_missed_health_check_degrades_until_it_answers() -> None:
    assert run(Event.READY, Event.LATE)[0] is ProcessState.DEGRADED
    assert run(Event.READY, Event.LATE, Event.READY)[0] is ProcessState.READY


def test_a_running_process_is_asked_to_end_and_one_that_starts_is_not() -> None:
    stop = (Event.STOP, Event.REAPED)
    assert Effect.CLOSE in run(Event.READY, *stop)[1]
    assert Effect.CLOSE not in run(*stop)[1]


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_no_order_of_events_breaks_a_rule(events: list[Event]) -> None:
    state = ProcessState.STARTING
    alive = True
    for event in events:
        before = state
        state, effects = step(state, event)
        if before is ProcessState.STOPPED:
            assert (state, effects) == (before, ())
        if before is ProcessState.STOPPING:
            assert state in (ProcessState.STOPPING, ProcessState.STOPPED)
        if before in OVER:
            assert state in (before, ProcessState.STOPPING)
            assert Effect.LAUNCH not in effects
        for effect in effects:
            if effect is Effect.LAUNCH:
                assert not alive, "it was launched beside another one"
                alive = True
            elif effect is Effect.REAP:
                alive = False
        if state in (ProcessState.STOPPED, *OVER) or Effect.PAUSE in effects:
            assert not alive
        if state.serves:
            assert before.serves or before is ProcessState.STARTING


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ProcessState, Event)))
def test_every_event_has_an_answer_in_every_state(state: ProcessState, event: Event) -> None:
    after, effects = step(state, event)
    assert isinstance(after, ProcessState)
    assert len(set(effects)) == len(effects)


def test_stopping_ends_from_every_state() -> None:
    for state in ProcessState:
        after, _ = step(*(step(state, Event.STOP)[0], Event.REAPED))
        assert after is ProcessState.STOPPED


def test_the_budget_of_restarts_is_refilled_by_time() -> None:
    restarts = Restarts(RestartPolicy(budget=2, window_seconds=10), spread=lambda: 0.0)
    assert [restarts.spend(now) for now in (0.0, 1.0, 2.0, 9.9, 10.0, 10.5, 11.0)] == [
        True,
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_pauses_double_up_to_the_longest_and_are_spread() -> None:
    policy = RestartPolicy(budget=5, backoff_first_seconds=1, backoff_most_seconds=4)
    restarts = Restarts(policy, spread=lambda: 0.0)
    pauses = []
    for now in range(5):
        restarts.spend(float(now))
        pauses.append(restarts.pause())
    assert pauses == [1, 2, 4, 4, 4]
    spread = Restarts(policy, spread=lambda: 1.0)
    spread.spend(0.0)
    assert spread.pause() == 0.5


def test_no_budget_is_no_restart() -> None:
    assert not Restarts(RestartPolicy(budget=0)).spend(0.0)


def test_missed_health_checks_are_late_until_there_are_too_many() -> None:
    policy = RestartPolicy(ping_failures=3)
    assert [judge(missed, policy) for missed in range(5)] == [
        Verdict.WELL,
        Verdict.LATE,
        Verdict.LATE,
        Verdict.HUNG,
        Verdict.HUNG,
    ]

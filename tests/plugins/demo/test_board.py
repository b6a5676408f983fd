"""A step held only if it came to its end without a problem, whatever kind of failure it had."""

from __future__ import annotations

import pytest

from innkeeper_demo.board import Board, Stage, Step, StepState
from innkeeper_demo.errors import StepError
from innkeeper_sdk.errors import NotFoundError


@pytest.fixture
def told() -> list[tuple[Step, StepState, str]]:
    return []


@pytest.fixture
def board(told: list[tuple[Step, StepState, str]]) -> Board:
    def listener(stage: Stage) -> None:
        told.append((stage.step, stage.state, stage.detail))

    return Board(listener)


def run_all(board: Board, *, but: Step | None = None) -> None:
    for step in Step:
        if step is not but:
            with board.step(step):
                board.say(f"did {step.value}")


def test_all_steps_without_a_problem_hold(board: Board) -> None:
    run_all(board)
    assert board.held
    assert board.problems == []


def test_a_step_that_was_not_reached_does_not_hold(board: Board) -> None:
    run_all(board, but=Step.CRASH)
    assert not board.held


def test_a_problem_lets_the_step_go_on_and_fails_it(board: Board) -> None:
    run_all(board, but=Step.STOP)
    with board.step(Step.STOP):
        board.problem("a file is left")
        board.problem("a file is left")
        board.conclude("nothing is left")
    assert not board.held
    assert board.problems == [(Step.STOP, "a file is left")]
    assert board.stages[Step.STOP].detail == ""


def test_every_error_of_a_step_is_its_problem(board: Board) -> None:
    with pytest.raises(StepError, match="no such thing"), board.step(Step.RUN):
        raise NotFoundError("no such thing")
    with pytest.raises(StepError, match="OSError: disk"), board.step(Step.DEPLOY):
        raise OSError("disk")
    with pytest.raises(StepError), board.step(Step.START):
        raise StepError("not ready")
    assert [problem for _, problem in board.problems] == ["not ready", "OSError: disk", "no such thing"]
    assert {board.stages[step].state for step in (Step.START, Step.DEPLOY, Step.RUN)} == {StepState.FAILED}


def test_an_interruption_goes_through(board: Board) -> None:
    with pytest.raises(KeyboardInterrupt), board.step(Step.RUN):
        raise KeyboardInterrupt
    assert board.problems == [(Step.RUN, "interrupted")]


def test_whoever_shows_it_is_told_of_each_change(board: Board, told: list[tuple[Step, StepState, str]]) -> None:
    with board.step(Step.START):
        board.say("starting")
        board.say("starting")
    assert told == [
        (Step.START, StepState.RUNNING, ""),
        (Step.START, StepState.RUNNING, "starting"),
        (Step.START, StepState.HELD, "starting"),
    ]


def test_a_step_beside_others_ends_while_they_run(board: Board, told: list[tuple[Step, StepState, str]]) -> None:
    with board.beside(Step.BUILD) as build:
        build.say("building")
        with board.step(Step.START):
            board.say("starting")
            build.hold("built")
            board.say("started")
        build.say("too late")
    assert told == [
        (Step.BUILD, StepState.RUNNING, ""),
        (Step.BUILD, StepState.RUNNING, "building"),
        (Step.START, StepState.RUNNING, ""),
        (Step.START, StepState.RUNNING, "starting"),
        (Step.BUILD, StepState.HELD, "built"),
        (Step.START, StepState.RUNNING, "started"),
        (Step.START, StepState.HELD, "started"),
    ]


def test_a_step_beside_others_that_does_not_end_has_failed(board: Board) -> None:
    with board.beside(Step.BUILD):
        pass
    run_all(board, but=Step.BUILD)
    assert not board.held
    assert board.problems == [(Step.BUILD, "ended before it was done")]


def test_a_step_beside_others_fails_once(board: Board) -> None:
    with board.beside(Step.BUILD) as build:
        build.fail("no")
        build.hold("yes after all")
    assert board.problems == [(Step.BUILD, "no")]
    assert board.stages[Step.BUILD].state is StepState.FAILED

"""The steps of a demonstration, and what became of each.

Rules of this module:

1. A step is waiting, running, held or failed; it held only if it came to its end without a problem.
2. One step runs after the other, but for those that go on beside them until they say that they have ended.
3. Whoever shows the steps is told of every change and asks nothing: showing must not be able to fail a demonstration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from attrs import Factory, define

from innkeeper_demo.errors import StepError
from innkeeper_demo.interrupts import check
from innkeeper_sdk.errors import InnkeeperError

__all__ = ["Beside", "Board", "Listener", "Stage", "Step", "StepState"]


class Step(Enum):
    """The steps, in their order; the value is the name that a person sees."""

    BUILD = "build"
    START = "start"
    DEPLOY = "deploy"
    RUN = "run"
    TRESPASS = "trespass"
    REPLAY = "replay"
    CRASH = "crash"
    STOP = "stop"


class StepState(Enum):
    """Where a step stands."""

    WAITING = "waiting"
    RUNNING = "running"
    HELD = "ok"
    FAILED = "failed"


@define
class Stage:
    """One step.

    Attributes:
        step: Which.
        state: Where it stands.
        seconds: How long it took, or has taken so far at its last change.
        detail: What it is doing, then what it did.
        problems: What did not hold, a sentence each.
    """

    step: Step
    state: StepState = StepState.WAITING
    seconds: float = 0.0
    detail: str = ""
    problems: list[str] = Factory(list)


Listener = Callable[[Stage], None]


class Beside:
    """A step that goes on beside the others.

    Args:
        stage: The step's.
        listener: Is told of each change.
    """

    def __init__(self, stage: Stage, listener: Listener) -> None:
        self._stage = stage
        self._listener = listener
        self._began = time.monotonic()
        self._tell(StepState.RUNNING)

    @property
    def running(self) -> bool:
        """Return whether it has not ended."""
        return self._stage.state is StepState.RUNNING

    def say(self, detail: str) -> None:
        """Say what it is doing, unless it has ended."""
        if self.running and detail != self._stage.detail:
            self._stage.detail = detail
            self._tell(StepState.RUNNING)

    def hold(self, detail: str) -> None:
        """End it, with what it did, unless it has ended."""
        if self.running:
            self._stage.detail = detail
            self._tell(StepState.HELD)

    def fail(self, problem: str) -> None:
        """End it, with what does not hold, unless it has ended."""
        if self.running:
            self._stage.problems.append(problem)
            self._tell(StepState.FAILED)

    def _tell(self, state: StepState) -> None:
        self._stage.state = state
        self._stage.seconds = time.monotonic() - self._began
        self._listener(self._stage)


class Board:
    """Keep the steps.

    Args:
        listener: Is told of each change.
    """

    def __init__(self, listener: Listener) -> None:
        self.stages = {step: Stage(step) for step in Step}
        self._listener = listener
        self._current: Stage | None = None
        self._began = 0.0

    @property
    def held(self) -> bool:
        """Return whether every step held."""
        return all(stage.state is StepState.HELD for stage in self.stages.values())

    @property
    def problems(self) -> list[tuple[Step, str]]:
        """Return what did not hold, in order."""
        return [(stage.step, problem) for stage in self.stages.values() for problem in stage.problems]

    @contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Run a step.

        Raises:
            StepError: It cannot go on, whatever it was that went wrong.
            Interrupted: Something has asked this process to stop.
        """
        check()
        self._current, self._began = self.stages[step], time.monotonic()
        stage = self._current
        stage.state = StepState.RUNNING
        self._listener(stage)
        try:
            yield
        except StepError as error:
            stage.problems.append(str(error))
            raise
        except Exception as error:
            # Whatever it is that broke, what was started before it is looked after, and all that was found is shown.
            text = str(error) if isinstance(error, InnkeeperError) else f"{type(error).__name__}: {error}"
            stage.problems.append(text)
            raise StepError(text) from error
        except BaseException:
            stage.problems.append("interrupted")
            raise
        finally:
            stage.seconds = time.monotonic() - self._began
            stage.state = StepState.FAILED if stage.problems else StepState.HELD
            self._current = None
            self._listener(stage)

    @contextmanager
    def beside(self, step: Step) -> Iterator[Beside]:
        """Run a step that may end while others run; one that has not ended with the context has failed."""
        beside = Beside(self.stages[step], self._listener)
        try:
            yield beside
        finally:
            beside.fail("ended before it was done")

    def say(self, detail: str) -> None:
        """Say what the running step is doing, or did."""
        if self._current is None:
            raise AssertionError("no step is running")
        if detail != self._current.detail:
            self._current.detail = detail
            self._current.seconds = time.monotonic() - self._began
            self._listener(self._current)

    def conclude(self, detail: str) -> None:
        """Say what the running step has shown, unless something did not hold."""
        if self._current is not None and not self._current.problems:
            self.say(detail)

    def problem(self, text: str) -> None:
        """Note what does not hold, once; the step goes on."""
        if self._current is None:
            raise AssertionError("no step is running")
        if text not in [known for _, known in self.problems]:
            self._current.problems.append(text)
            self._listener(self._current)

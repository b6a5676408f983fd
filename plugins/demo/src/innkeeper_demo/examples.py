"""The examples' binaries as the demonstration gets them, and the step that tells of their builds.

Rules of this module: the step goes on beside the others, until all examples are built or one cannot be; whoever then
wants a binary is told that there is none, and the step has the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from innkeeper_demo.board import Beside, Board, Step
from innkeeper_demo.building import Builds
from innkeeper_demo.errors import StepError
from innkeeper_demo.repository import EXAMPLES, Repository

__all__ = ["Examples", "examples_of"]


class Examples:
    """Give the examples' binaries.

    Args:
        builds: Runs.
        step: Ends when all are built, or one has failed.
    """

    def __init__(self, builds: Builds, step: Beside) -> None:
        self._builds = builds
        self._step = step
        if builds.missing:
            step.say(f"building {', '.join(builds.missing)}; the first time packages come from the npm registry")
        self._note()

    def binary(self, name: str) -> bytes:
        """Return an example's binary, once it is built.

        Raises:
            StepError: It, or one before it, cannot be built; the step of the builds has the reason.
        """
        try:
            binary = self._builds.binary(name)
        except StepError as error:
            self._step.fail(str(error))
            raise StepError("an example could not be built") from error
        self._note()
        return binary

    def _note(self) -> None:
        if self._builds.done:
            built = f"{len(self._builds.missing)} built now" if self._builds.missing else "built before"
            self._step.hold(f"{', '.join(EXAMPLES)} ({built})")


@contextmanager
def examples_of(
    repository: Repository, environ: Mapping[str, str], packages: Path | None, board: Board
) -> Iterator[Examples]:
    """Build the examples while the context is open.

    Args:
        repository: Where they are.
        environ: The environment of the builds.
        packages: Where builds keep packages and caches; None is the clone's own place.
        board: Is told how it goes.

    Raises:
        StepError: Builds cannot be started.
    """
    with board.beside(Step.BUILD) as step, ExitStack() as stack:
        try:
            builds = Builds(repository, EXAMPLES, environ=environ, packages=packages)
            stack.callback(builds.close)
            builds.start()
        except (OSError, StepError) as error:
            step.fail(str(error))
            raise StepError("the examples cannot be built") from error
        yield Examples(builds, step)

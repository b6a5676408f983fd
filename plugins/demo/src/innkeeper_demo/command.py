"""The command ``innkeeper demo``.

Rules of this module:

1. The exit code is 0 if everything held, 1 if anything did not, 2 for a wrong call, and 128 with the signal's number if
   it was interrupted.
2. Data goes to stdout, one object with ``-o json``; talk, progress and reasons go to stderr.
3. However it ends, its host ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Final

import click
from rich.console import Console

from innkeeper_demo.board import Board, Stage
from innkeeper_demo.demonstration import Demonstration
from innkeeper_demo.hosting import plain_environment
from innkeeper_demo.repository import find_repository
from innkeeper_demo.showing import outcome, picture, plain_rows, printable, shown_on
from innkeeper_sdk.errors import ExitCode

__all__ = ["main"]

# As `innkeeper workflow build` has it.
_BUILD_DIRECTORY_VARIABLE: Final = "INNKEEPER_BUILD_DIR"

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Output(Enum):
    """The form of the data."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    PLAIN = "plain"


class Interrupted(BaseException):
    """Raised when a signal asks this process to stop; no handler of ordinary errors takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Choice([form.value for form in Output]),
    default=Output.TABLE.value,
    show_default=True,
    help="The form of the output.",
)
@click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), help="Also draw what a terminal shows into this file."
)
def demo(output: str, svg: Path | None) -> int:
    """Show the whole: plain and confidential workflows, a trespasser, a crash.

    Builds the examples, starts a host of its own in a temporary directory, runs workflows on it, attacks it, stops it
    and looks for what it left. Run it in a clone of the repository; needs Node.js 20 the first time.
    """
    repository = find_repository(Path.cwd(), os.environ)
    form = Output(output)
    with shown_on(Console(stderr=True), keep=form is not Output.TABLE) as listener:
        board = Board(listener)
        demonstration = Demonstration(repository, plain_environment(os.environ), board)
        packages = os.environ.get(_BUILD_DIRECTORY_VARIABLE)
        demonstration.run(packages=Path(packages).absolute() if packages else None)
    stages = list(board.stages.values())
    _show(demonstration, stages, form)
    if svg is not None:
        svg.write_text(picture(demonstration.record, stages, "make demo"), encoding="utf-8")
    if demonstration.record.ok:
        return ExitCode.OK
    for step, problem in board.problems:
        click.echo(f"{step.value}: {printable(problem)}", err=True)
    if demonstration.last_words:
        click.echo(f"the host's last words:\n{printable(demonstration.last_words)}", err=True)
    return ExitCode.PROBLEMS


def _show(demonstration: Demonstration, stages: list[Stage], form: Output) -> None:
    match form:
        case Output.TABLE:
            outcome(demonstration.record, stages, Console())
        case Output.PLAIN:
            for row in plain_rows(stages):
                click.echo(row)
        case Output.JSON:
            click.echo(json.dumps(demonstration.record.to_dict(), ensure_ascii=False, indent=2))
        case Output.YAML:
            import yaml  # noqa: PLC0415 - only this form pays for it

            text = yaml.safe_dump(demonstration.record.to_dict(), sort_keys=False, allow_unicode=True)
            click.echo(text, nl=False)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Raise on the first signal; what comes after it is ignored, for only the bounded clean-up is left."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Args:
        arguments: The words behind ``innkeeper demo``.

    Returns:
        The exit code.
    """
    try:
        with _interrupts():
            code = demo.main(list(arguments), prog_name=sys.argv[0], standalone_mode=False)
    except Interrupted as interrupted:
        click.echo("interrupted", err=True)
        return 128 + interrupted.number
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(code or 0)

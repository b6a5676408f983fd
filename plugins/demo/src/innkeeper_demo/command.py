"""The command ``innkeeper demo``.

Rules of this module:

1. The exit code is 0 if everything held, 1 if anything did not, 2 for a wrong call, and 128 with the signal's number if
   it was interrupted.
2. Data goes to stdout, one object with ``-o json``; talk, progress and reasons go to stderr.
3. However it ends, its host ends with it; what one that was killed could not remove, the next one removes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from innkeeper_demo.board import Board, Stage
from innkeeper_demo.demonstration import Demonstration
from innkeeper_demo.folders import sweep
from innkeeper_demo.hosting import plain_environment
from innkeeper_demo.interrupts import Interrupted, interrupts
from innkeeper_demo.repository import find_repository
from innkeeper_demo.showing import outcome, picture, plain_rows, printable, shown_on
from innkeeper_sdk.errors import ExitCode

__all__ = ["main"]

# As `innkeeper workflow build` has it.
_BUILD_DIRECTORY_VARIABLE: Final = "INNKEEPER_BUILD_DIR"


class Output(Enum):
    """The form of the data."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    PLAIN = "plain"


def _drawable(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file that could not be written, before anything runs."""
    if path is not None:
        folder = path.absolute().parent
        if not folder.is_dir():
            raise click.BadParameter(f"there is no directory {folder}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise click.BadParameter(f"{path} cannot be written")
    return path


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
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_drawable,
    help="Also draw what a terminal shows into this file.",
)
def demo(output: str, svg: Path | None) -> int:
    """Show the whole: plain and confidential workflows, a trespasser, a crash.

    Builds the examples, starts a host of its own in a temporary directory, runs workflows on it, attacks it, stops it
    and looks for what it left. Run it in a clone of the repository; needs Node.js 20 the first time.
    """
    repository = find_repository(Path.cwd(), os.environ)
    form = Output(output)
    sweep()
    with shown_on(Console(stderr=True), keep=form is not Output.TABLE) as listener:
        board = Board(listener)
        demonstration = Demonstration(repository, plain_environment(os.environ), board)
        packages = os.environ.get(_BUILD_DIRECTORY_VARIABLE)
        demonstration.run(packages=Path(packages).absolute() if packages else None)
    stages = list(board.stages.values())
    _show(demonstration, stages, form)
    if svg is not None:
        try:
            svg.write_text(picture(demonstration.record, stages, "make demo"), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"the picture cannot be written to {svg}: {error.strerror}") from error
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


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Args:
        arguments: The words behind ``innkeeper demo``.

    Returns:
        The exit code.
    """
    try:
        with interrupts():
            code = demo.main(list(arguments), prog_name=sys.argv[0], standalone_mode=False)
    except Interrupted as interrupted:
        click.echo("interrupted", err=True)
        return 128 + interrupted.number
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(code or 0)

"""From a command line to an exit code: the only place where errors become text and numbers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from innkeeper.cli.app import app
from innkeeper.cli.options import Invocation, OutputFormat
from innkeeper_sdk.errors import ExitCode, InnkeeperError

__all__ = ["main"]

# 128 + SIGPIPE.
_READER_GONE: Final = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Its words, without ``innkeeper``; those of this process by default.

    Returns:
        Its exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # File names and guests' texts may hold what the terminal's encoding lacks.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    invocation = Invocation()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments), invocation)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit; there must be something to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    return code


def _run(arguments: list[str], invocation: Invocation) -> int:
    try:
        with app.make_context("innkeeper", arguments, obj=invocation, color=_colour()) as context:
            result = app.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except InnkeeperError as error:
        tell(error, invocation.output)
        return error.exit_code
    return result if isinstance(result, int) else ExitCode.OK


def tell(error: InnkeeperError, output: OutputFormat) -> None:
    """Say on stderr what went wrong, in the form that the data would have had."""
    if output is OutputFormat.JSON:
        click.echo(json.dumps(error.to_dict(), ensure_ascii=False), err=True)
        return
    click.secho("error: ", fg="red", nl=False, err=True, color=_colour())
    click.echo(str(error), err=True)
    if error.code not in ("host", "provider", "error"):
        click.secho(f"`innkeeper explain {error.code}` says more", dim=True, err=True, color=_colour())


def _colour() -> bool | None:
    """Return whether to send colours: no if NO_COLOR says so, else if there is a terminal."""
    return False if os.environ.get("NO_COLOR") else None

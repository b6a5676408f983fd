"""The command ``innkeeper secrets set``.

Rules of this module:

1. The value comes from a file or from standard input, byte for byte: a line end at its end is part of it. Only what is
   typed at a prompt ends before its line end. It is UTF-8 text, since a guest gets text.
2. At a terminal it is asked for twice and not shown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import click

from innkeeper_confidential_workflows.protocol.releases import MAX_SECRET_BYTES
from innkeeper_sdk.errors import UsageError
from innkeeper_vault.commands.common import (
    DEFAULT_OWNER,
    OutputFormat,
    SecretCommand,
    name_argument,
    namespace_option,
    new_name_of,
    open_store,
    output_option,
    owner_of,
    owner_option,
    row_of,
    run,
    show_structured,
    talk,
)
from innkeeper_vault.errors import SecretInvalidError
from innkeeper_vault.records import no_text

__all__ = ["main"]

_PROG: Final = "innkeeper secrets set"


def main(arguments: Sequence[str]) -> int:
    """Set a secret.

    Args:
        arguments: The words after ``secrets set``.

    Returns:
        The exit code.
    """
    return run(_set, _PROG, arguments)


@click.command("set", cls=SecretCommand)
@name_argument
@namespace_option
@owner_option("Whose it is", DEFAULT_OWNER)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file that holds it. Default: standard input.",
)
@output_option
def _set(name: str, namespace: str, owner: str | None, file: Path | None, output: OutputFormat) -> None:
    """Set the secret NAME, or replace it.

    The value is taken from FILE or from standard input as it is, its last line end too; at a terminal it is asked for.
    It is text in UTF-8, of at most 27,000 bytes. Its version is one more than that of what it replaces; one that was
    deleted begins at 1 again.
    """
    secret, whose = new_name_of(name, namespace), owner_of(owner)
    with open_store() as store:
        entry = store.set(whose, secret, _value(file))
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        show_structured(row_of(entry), output)
    elif output is OutputFormat.PLAIN:
        click.echo("\t".join(map(str, row_of(entry).values())))
    else:
        talk(f"secret {entry.key} in namespace {entry.namespace} of owner {entry.owner} set: version {entry.version}")


def _value(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        typed: str = click.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    content = _limited(sys.stdin.buffer) if file is None else _content(file)
    text = _text(content)
    if text is None:
        raise no_text()
    return text


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return _limited(opened)
    except OSError as error:
        raise UsageError(f"the file cannot be read: {error.strerror}", path=str(file)) from error


def _limited(file: BinaryIO) -> bytes:
    content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise SecretInvalidError("the secret is too long", expected=f"at most {MAX_SECRET_BYTES} bytes", actual="more")
    return content


def _text(content: bytes) -> str | None:
    # No error is raised from here: it would hold the secret.
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None

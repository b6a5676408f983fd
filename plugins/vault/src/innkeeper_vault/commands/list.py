"""The command ``innkeeper secrets list``: what there is, never what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from innkeeper_vault.commands.common import (
    OutputFormat,
    SecretCommand,
    namespace_of,
    open_store,
    output_option,
    owner_of,
    owner_option,
    row_of,
    run,
    show_structured,
    talk,
)

__all__ = ["main"]

_PROG: Final = "innkeeper secrets list"


def main(arguments: Sequence[str]) -> int:
    """List secrets.

    Args:
        arguments: The words after ``secrets list``.

    Returns:
        The exit code.
    """
    return run(_list, _PROG, arguments)


@click.command("list", cls=SecretCommand)
@click.option("--namespace", metavar="NAMESPACE", help="Only what is in it. Default: all namespaces.")
@owner_option("Only this owner's", "everybody's")
@output_option
def _list(namespace: str | None, owner: str | None, output: OutputFormat) -> None:
    """List the secrets: name, namespace, owner, version, and when it was set."""
    whose = None if owner is None else owner_of(owner)
    where = None if namespace is None else namespace_of(namespace)
    with open_store() as store:
        rows = [row_of(entry) for entry in store.entries(whose, where)]
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        show_structured(rows, output)
    elif output is OutputFormat.PLAIN:
        for row in rows:
            click.echo("\t".join(map(str, row.values())))
    elif not rows and (whose or where):
        talk("there are no such secrets; `innkeeper secrets list` shows all that there are")
    elif not rows:
        talk("there are no secrets; `innkeeper secrets set NAME` sets one")
    else:
        _table(rows)


def _table(rows: Sequence[dict[str, Any]]) -> None:
    lines = [[title.upper() for title in rows[0]], *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

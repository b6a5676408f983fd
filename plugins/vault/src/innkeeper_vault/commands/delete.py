"""The command ``innkeeper secrets delete``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from innkeeper_vault.commands.common import (
    DEFAULT_OWNER,
    OutputFormat,
    SecretCommand,
    name_argument,
    name_of,
    namespace_option,
    open_store,
    output_option,
    owner_of,
    owner_option,
    run,
    show_structured,
    talk,
)

__all__ = ["main"]

_PROG: Final = "innkeeper secrets delete"


def main(arguments: Sequence[str]) -> int:
    """Delete a secret.

    Args:
        arguments: The words after ``secrets delete``.

    Returns:
        The exit code.
    """
    return run(_delete, _PROG, arguments)


@click.command("delete", cls=SecretCommand)
@name_argument
@namespace_option
@owner_option("Whose it is", DEFAULT_OWNER)
@output_option
def _delete(name: str, namespace: str, owner: str | None, output: OutputFormat) -> None:
    """Delete the secret NAME.

    If it is set again, its version is 1 again.
    """
    secret, whose = name_of(name, namespace), owner_of(owner)
    with open_store() as store:
        store.delete(whose, secret)
    row = {"name": secret.key, "namespace": secret.namespace, "owner": whose}
    if output in (OutputFormat.JSON, OutputFormat.YAML):
        show_structured(row, output)
    elif output is OutputFormat.PLAIN:
        click.echo("\t".join(row.values()))
    else:
        talk(f"secret {secret.key} in namespace {secret.namespace} of owner {whose} deleted")

"""``innkeeper capabilities``."""

from __future__ import annotations

from typing import Final

import click

from innkeeper.cli import views
from innkeeper.cli.hosts import connect
from innkeeper.cli.options import HostCommand, Invocation, output_option, pass_invocation
from innkeeper.cli.output import show_one, show_rows

__all__ = ["info", "list_"]

_COLUMNS: Final = {
    "id": "id",
    "type": "type",
    "visibility": "visibility",
    "provider": "provider",
    "ready": "ready",
    "description": "description",
}
_FIELDS: Final = {**_COLUMNS, "methods": "methods", "granted_to": "granted to"}


@click.command("list", cls=HostCommand)
@output_option
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the capabilities of the running host."""
    with connect(invocation) as client:
        rows = [views.capability(c) for c in client.capabilities()]
    show_rows(rows, _COLUMNS, invocation.output, empty="no provider has registered a capability")


@click.command("info", cls=HostCommand)
@click.argument("capability_id", metavar="ID")
@output_option
@pass_invocation
def info(invocation: Invocation, capability_id: str) -> None:
    """Show one capability; ID is name@version."""
    with connect(invocation) as client:
        shown = views.capability(client.capability(capability_id))
    show_one(shown, invocation.output, fields=_FIELDS)

"""``innkeeper executions``."""

from __future__ import annotations

from typing import Final

import click

from innkeeper.cli import views
from innkeeper.cli.hosts import connect
from innkeeper.cli.options import HostCommand, Invocation, OutputFormat, output_option, pass_invocation
from innkeeper.cli.output import printable, show_one, show_rows, talk
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["list_", "show"]

_COLUMNS: Final = {
    "execution_id": "execution",
    "workflow_id": "workflow",
    "trigger_index": "trigger",
    "status": "status",
    "attempt": "attempt",
    "accepted_at": "accepted",
    "seconds": "seconds",
}
_FIELDS: Final = {
    **_COLUMNS,
    "event_id": "event",
    "started_at": "started",
    "finished_at": "finished",
    "result": "result",
    "dropped_logs": "log lines dropped",
}
_STATUSES: Final = ("accepted", "running", "success", "error", "failed", "timeout", "in_doubt")


@click.command("list", cls=HostCommand)
@click.option("--workflow", default="", metavar="ID|NAME", help="Only those of this workflow.")
@click.option("--owner", default="", metavar="HEX", help="Whose workflow, if its name is not unique.")
@click.option("--status", type=click.Choice(_STATUSES), default=None, help="Only those with this status.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest so many.")
@output_option
@pass_invocation
def list_(invocation: Invocation, workflow: str, owner: str, status: str | None, limit: int) -> None:
    """List executions, newest first."""
    selector = pb.WorkflowSelector(workflow=workflow, owner=owner) if workflow else None
    with connect(invocation) as client:
        found = client.executions(selector, limit=limit, status=status or "")
    rows = []
    for message in found:
        row = views.execution(message)
        del row["logs"]  # `show` and `workflow logs` have them
        rows.append(row)
    show_rows(rows, _COLUMNS, invocation.output, empty="no executions")


@click.command("show", cls=HostCommand)
@click.argument("execution_id", metavar="ID")
@output_option
@pass_invocation
def show(invocation: Invocation, execution_id: str) -> None:
    """Show one execution, its result and its log."""
    with connect(invocation) as client:
        shown = views.execution(client.execution(execution_id))
    show_one(shown, invocation.output, fields=_FIELDS)
    if invocation.output is OutputFormat.TABLE and shown["logs"]:
        talk("log:")
        for line in shown["logs"]:
            click.echo(f"  {line['time']}  {printable(line['message'])}")

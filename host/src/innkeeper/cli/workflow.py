"""``innkeeper workflow``: the verbs that speak to a running host."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from innkeeper.cli import views
from innkeeper.cli.artifacts import read_artifacts, read_text_or_file
from innkeeper.cli.hosts import connect
from innkeeper.cli.options import HostCommand, Invocation, OutputFormat, output_option, pass_invocation
from innkeeper.cli.output import show_line, show_one, show_rows, trigger_lines
from innkeeper_sdk.errors import ExitCode
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["activate", "delete", "deploy", "list_", "logs", "pause", "show"]

# The state of a workflow that does not run, and will not by waiting.
_FAILED: Final = "failed"

_COLUMNS: Final = {
    "workflow_id": "id",
    "name": "name",
    "tag": "tag",
    "status": "status",
    "state": "state",
    "module": "module",
    "reason": "reason",
}
_FIELDS: Final = {
    "workflow_id": "id",
    "name": "name",
    "owner": "owner",
    "tag": "tag",
    "status": "status",
    "state": "state",
    "reason": "reason",
    "module": "module",
    "kind": "kind",
    "attributes": "attributes",
    "source": "source",
    "binary_url": "binary",
    "binary_sha256": "sha256",
    "created_at": "created",
    "updated_at": "updated",
    "active": "executions running",
    "queued": "events waiting",
    "dropped_events": "events dropped",
}


_selected = click.argument("selected", metavar="ID|NAME")
_owner = click.option("--owner", default="", metavar="HEX", help="Whose workflow, if its name is not unique.")


@click.command(cls=HostCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="What to call it.")
@click.option("--owner", default="", metavar="HEX", help="20 bytes. Default: the host's default owner.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its configuration.")
@click.option("--attributes", metavar="JSON|@FILE", help="Its deployment attributes. Default: {}.")
@click.option("--tag", default="", help="A version, or whatever tells this deployment from another.")
@click.option("--paused", is_flag=True, help="Store it without starting it.")
@click.option("--allow-plain", is_flag=True, help="Permit that what its attributes bound is bound no longer.")
@output_option
@pass_invocation
def deploy(
    invocation: Invocation,
    *,
    file: Path,
    name: str,
    owner: str,
    config: Path | None,
    attributes: str | None,
    tag: str,
    paused: bool,
    allow_plain: bool,
) -> int:
    """Deploy a workflow, or update the one of the same owner and name.

    Exits 1 if it is deployed but cannot run, with the reason.
    """
    text = read_text_or_file(attributes, "--attributes")
    with connect(invocation) as client:
        artifacts = read_artifacts(client.host(), file, config=config, attributes=text)
        artifacts.name, artifacts.owner, artifacts.tag = name, owner, tag
        deployed = client.deploy(artifacts, paused=paused, allow_plain=allow_plain)
    _show(deployed, invocation)
    return _verdict(deployed)


@click.command("list", cls=HostCommand)
@output_option
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the deployed workflows."""
    with connect(invocation) as client:
        rows = [views.workflow(w) for w in client.workflows()]
    show_rows(rows, _COLUMNS, invocation.output, empty="no workflows are deployed")


@click.command(cls=HostCommand)
@_selected
@_owner
@output_option
@pass_invocation
def show(invocation: Invocation, selected: str, owner: str) -> None:
    """Show one workflow and its triggers."""
    with connect(invocation) as client:
        shown = client.workflow(_selector(selected, owner))
    _show(shown, invocation)


@click.command(cls=HostCommand)
@_selected
@_owner
@output_option
@pass_invocation
def activate(invocation: Invocation, selected: str, owner: str) -> int:
    """Let a paused workflow run again.

    Exits 1 if it cannot, with the reason.
    """
    with connect(invocation) as client:
        shown = client.activate(_selector(selected, owner))
    _show(shown, invocation)
    return _verdict(shown)


@click.command(cls=HostCommand)
@_selected
@_owner
@output_option
@pass_invocation
def pause(invocation: Invocation, selected: str, owner: str) -> None:
    """Stop a workflow and keep it."""
    with connect(invocation) as client:
        shown = client.pause(_selector(selected, owner))
    _show(shown, invocation)


@click.command(cls=HostCommand)
@_selected
@_owner
@pass_invocation
def delete(invocation: Invocation, selected: str, owner: str) -> None:
    """Stop a workflow and forget it."""
    with connect(invocation) as client:
        client.delete(_selector(selected, owner))


@click.command(cls=HostCommand)
@_selected
@_owner
@click.option("--execution", default="", metavar="ID", help="Only the lines of this execution.")
@click.option("-f", "--follow", is_flag=True, help="Go on with the lines that come, until interrupted.")
@click.option("--tail", type=click.IntRange(min=1), default=None, metavar="N", help="Only the newest N lines so far.")
@output_option
@pass_invocation
def logs(invocation: Invocation, *, selected: str, owner: str, execution: str, follow: bool, tail: int | None) -> None:
    """Print what a workflow logged, oldest first.

    With -o json one object per line.
    """
    with connect(invocation) as client:
        lines = client.logs(_selector(selected, owner), execution_id=execution, follow=follow, tail=tail or 0)
        for line in lines:
            shown = views.log_line(line)
            show_line(shown, f"{shown['time']}  {shown['execution_id'][:8]}  {line.message}", invocation.output)


def _show(shown: pb.Workflow, invocation: Invocation) -> None:
    record = views.workflow(shown)
    show_one(record, invocation.output, fields=_FIELDS)
    if invocation.output is OutputFormat.TABLE and record["triggers"]:
        click.echo("triggers:")
        for line in trigger_lines(record["triggers"]):
            click.echo(f"  {line}")


def _verdict(shown: pb.Workflow) -> int:
    # A script must not go on as if it ran. One that is deferred may yet: something it needs is not ready.
    return ExitCode.PROBLEMS if shown.state == _FAILED else ExitCode.OK


def _selector(selected: str, owner: str) -> pb.WorkflowSelector:
    return pb.WorkflowSelector(workflow=selected, owner=owner)

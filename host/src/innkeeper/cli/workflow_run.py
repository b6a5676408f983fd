"""``innkeeper workflow run``: a workflow once, on a host of its own.

Rules of this module:

1. The simulator is the node: an ephemeral ``innkeeper run --dev`` on temporary directories, spoken to through the
   control protocol like any other.
2. Secrets go over the socket. They are never in an argument or in the environment of the host's process. Who gives one
   where its variable's name belongs does not see it again: errors repeat nothing that may be it.
3. With ``-o json`` stdout is one JSON object, whether the run succeeded or failed: ``triggers``, ``logs``, ``result``
   (``{"value": …}`` or ``{"error": text}``) and ``seconds``. Exit code 0 on a value, 1 on an error. A command that was
   called wrongly (2), and what keeps a host from starting (3, 4), are errors on stderr alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from innkeeper.cli import views
from innkeeper.cli.artifacts import read_artifacts, read_text_or_file
from innkeeper.cli.ephemeral import EphemeralHost
from innkeeper.cli.main import tell
from innkeeper.cli.options import HostCommand, Invocation, OutputFormat, output_option, pass_invocation
from innkeeper.cli.output import printable, show_structured, talk, trigger_lines
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.errors import ExitCode, InnkeeperError, UsageError, WorkflowError
from innkeeper_sdk.namespaces import normalise
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["run"]

# With these nothing has run: the command or the host's configuration is at fault. A host that is gone was there before.
_NO_RUN: Final = frozenset({ExitCode.USAGE, ExitCode.CONFIG, ExitCode.VERIFICATION})

# What a provider is in that keeps its workflows from running; disabled ones were not asked for.
_TROUBLED: Final = frozenset({"failed", "degraded", "restarting", "quarantined", "unsupported"})


class Report:
    """What a run came to so far; in the end the object that ``-o json`` prints."""

    def __init__(self, output: OutputFormat) -> None:
        self._talks = output is OutputFormat.TABLE
        self.triggers: list[dict[str, Any]] = []
        self.logs: list[str] = []
        self.result: Mapping[str, Any] = {"error": "the run did not finish"}
        self.seconds = 0.0

    def subscribed(self, triggers: Sequence[pb.Trigger]) -> None:
        """Take note of the triggers."""
        self.triggers = [views.trigger(trigger) for trigger in triggers]
        if self._talks:
            click.echo("triggers:")
            for line in trigger_lines(self.triggers):
                click.echo(f"  {line}")

    def logged(self, message: str) -> None:
        """Take note of a line of the workflow's log."""
        if self._talks:
            if not self.logs:
                click.echo("log:")
            click.echo("  " + printable(message))
        self.logs.append(message)

    def finished(self, execution: pb.Execution) -> None:
        """Take note of the end."""
        self.result = views.result(execution) or self.result
        self.seconds = execution.seconds
        if self._talks and "value" in self.result:
            click.echo(f"result after {self.seconds:.3f} s:")
            click.echo(printable(json.dumps(self.result["value"], ensure_ascii=False, indent=2), lines=True))
        if execution.dropped_logs:
            talk(f"{execution.dropped_logs} log lines were not kept: a limit was passed", colour="yellow")

    def failed(self, error: InnkeeperError) -> None:
        """Take note of what ended the run."""
        self.result = {"error": str(error)}

    def as_record(self) -> dict[str, Any]:
        """Return the object."""
        return {"triggers": self.triggers, "logs": self.logs, "result": self.result, "seconds": self.seconds}


class SecretOption(click.ParamType[tuple[str, pb.Secret]]):
    """``[NAMESPACE/]NAME=ENV``, read from the environment at once."""

    name = "secret"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, pb.Secret]:
        """Return the variable's name and the secret."""
        if isinstance(value, tuple):
            return value
        identifier, equals, variable = str(value).partition("=")
        namespace, slash, name = identifier.rpartition("/")
        # A second equals sign is no variable's; a secret in base64 ends like this.
        if not equals or not name or not variable or "=" in variable or (slash and not namespace):
            self.fail("expected [NAMESPACE/]NAME=ENV, where ENV is the name of a variable", param, ctx)
        if not _is_text(identifier):
            self.fail("the name of a secret must be UTF-8", param, ctx)
        if variable not in os.environ:
            self.fail(
                f"what the secret {printable(name)} is given is not the name of a variable in the environment; it is "
                "not shown, for it may be the secret itself",
                param,
                ctx,
            )
        if not _is_text(os.environ[variable]):
            self.fail(f"the value of the variable {printable(variable)} is not UTF-8", param, ctx)
        secret = pb.Secret(namespace=normalise(namespace), name=name, value=os.environ[variable])
        return variable, secret


def _is_text(value: str) -> bool:
    # What is not UTF-8 in arguments and in the environment is lone surrogates here.
    return not any("\ud800" <= character <= "\udfff" for character in value)


@click.command(cls=HostCommand)
@click.argument("binary", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its configuration.")
@click.option(
    "--secret",
    "secrets",
    type=SecretOption(),
    multiple=True,
    metavar="[NAMESPACE/]NAME=ENV",
    help="A secret, taken from the variable ENV; may be repeated.",
)
@click.option("--attributes", metavar="JSON|@FILE", help="Its deployment attributes. Default: {}.")
@click.option("--trigger", type=click.IntRange(min=0), default=0, show_default=True, help="Which trigger to fire.")
@click.option(
    "--payload",
    metavar="JSON|@FILE",
    help="The event, as protobuf JSON. Default: the event that the trigger would deliver next.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the ephemeral host's log on stderr.")
@output_option
@pass_invocation
def run(
    invocation: Invocation,
    *,
    binary: Path,
    config: Path | None,
    secrets: tuple[tuple[str, pb.Secret], ...],
    attributes: str | None,
    trigger: int,
    payload: str | None,
    verbose: bool,
) -> int:
    """Run a workflow's BINARY once, on a host of its own.

    Prints its triggers, its log and its result.
    """
    report = Report(invocation.output)
    text, event = read_text_or_file(attributes, "--attributes"), read_text_or_file(payload, "--payload")
    try:
        with EphemeralHost(invocation, scrub={variable for variable, _ in secrets}, show_log=verbose) as client:
            _warn_of_providers(client)
            artifacts = read_artifacts(client.host(), binary, config=config, attributes=text)
            artifacts.name = binary.name.partition(".")[0] or binary.name
            simulated = client.simulate(artifacts, [secret for _, secret in secrets])
            report.subscribed(simulated.triggers)
            _check_trigger(simulated, trigger)
            _fire(client, simulated.workflow_id, trigger, event, report)
    except InnkeeperError as error:
        if error.exit_code in _NO_RUN:
            raise
        tell(error, invocation.output)
        report.failed(error)
    else:
        if "error" in report.result:
            tell(WorkflowError(f"the workflow failed: {report.result['error']}"), invocation.output)
    if invocation.output is not OutputFormat.TABLE:
        show_structured(report.as_record(), invocation.output)
    return ExitCode.OK if "value" in report.result else ExitCode.PROBLEMS


def _fire(client: ControlClient, workflow_id: str, trigger: int, payload: str, report: Report) -> None:
    with closing(client.fire(workflow_id, trigger, payload_json=payload)) as updates:
        for update in updates:
            match update.WhichOneof("update"):
                case "waiting":
                    talk(f"waiting for the trigger: {printable(update.waiting)}")
                case "log":
                    report.logged(update.log.message)
                case "execution":
                    report.finished(update.execution)


def _check_trigger(workflow: pb.Workflow, trigger: int) -> None:
    if trigger >= len(workflow.triggers):
        raise UsageError(
            f"there is no trigger {trigger}",
            expected=f"--trigger from 0 to {len(workflow.triggers) - 1}",
            actual=str(trigger),
        )


def _warn_of_providers(client: ControlClient) -> None:
    for provider in client.providers():
        if provider.state in _TROUBLED:
            talk(f"warning: provider {provider.id} is {provider.state}: {printable(provider.reason)}", colour="yellow")

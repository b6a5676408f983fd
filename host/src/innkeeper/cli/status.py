"""``innkeeper status``."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from innkeeper.cli.hosts import connect
from innkeeper.cli.options import HostCommand, Invocation, OutputFormat, output_option, pass_invocation
from innkeeper.cli.output import show_one
from innkeeper_sdk.errors import ExitCode, HostUnreachableError

if TYPE_CHECKING:
    from innkeeper_sdk.control import ControlClient

__all__ = ["status"]

_FIELDS: Final = {
    "name": "host",
    "summary": "state",
    "environment": "environment",
    "version": "version",
    "pid": "pid",
    "started_at": "started",
    "data_dir": "data",
    "providers": "providers",
    "processes": "processes",
    "workflows": "workflows",
}
# How many there are, by state.
_COUNTED: Final = ("providers", "processes", "workflows")
_POLL_SECONDS: Final = 0.05


@click.command(cls=HostCommand)
@click.option(
    "--wait",
    "wait",
    is_flag=False,
    flag_value=60.0,
    type=click.FloatRange(min=0),
    metavar="[SECONDS]",
    help="Wait until the host is ready; 60 seconds at most, unless said otherwise.",
)
@output_option
@pass_invocation
def status(invocation: Invocation, wait: float | None) -> int:
    """Say whether a host runs, and how it is.

    Exits with 5 if none answers, with 1 if it is not ready.
    """
    deadline = time.monotonic() + (wait or 0.0)
    while True:
        try:
            with connect(invocation) as client:
                shown = _status(client)
        except HostUnreachableError:
            # It may be about to start.
            if time.monotonic() >= deadline:
                raise
        else:
            if shown["ready"] or time.monotonic() >= deadline:
                break
        time.sleep(_POLL_SECONDS)
    if invocation.output in (OutputFormat.TABLE, OutputFormat.PLAIN):
        counted = {key: ", ".join(f"{count} {state}" for state, count in shown[key].items()) for key in _COUNTED}
        show_one({**shown, **counted}, invocation.output, fields=_FIELDS)
    else:
        show_one(shown, invocation.output, fields=_FIELDS)
    return ExitCode.OK if shown["ready"] else ExitCode.PROBLEMS


def _status(client: ControlClient) -> dict[str, Any]:
    from innkeeper.cli import views  # noqa: PLC0415 - protobuf, which is of no use without a host

    shown = views.host(client.host())
    listed = client.providers()
    providers = Counter(p.state for p in listed)
    processes = Counter(part.state for p in listed for part in p.parts if part.mode != "host")
    workflows = Counter(w.state for w in client.workflows())
    summary = "draining" if shown["draining"] else "ready" if shown["ready"] else "starting"
    return {
        **shown,
        "summary": summary,
        "providers": dict(providers),
        "processes": dict(processes),
        "workflows": dict(workflows),
    }

"""``innkeeper plugins``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from innkeeper.cli.hosts import connect_if_running, plugins_files, settings_of
from innkeeper.cli.options import HostCommand, Invocation, output_option, pass_invocation
from innkeeper.cli.output import show_rows, talk
from innkeeper.config.plugins import load_plugins
from innkeeper.providers.catalog import join
from innkeeper.providers.discovery import discover
from innkeeper.providers.states import ProviderState

if TYPE_CHECKING:
    from innkeeper_sdk.control import ControlClient

__all__ = ["list_"]

_COLUMNS: Final = {
    "id": "id",
    "state": "state",
    "package": "package",
    "version": "version",
    "mode": "mode",
    "reason": "reason",
}


@click.command("list", cls=HostCommand)
@output_option
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List what plugins.yaml names.

    With a running host, as it is there; without one, as far as plugins.yaml and the installed packages tell. Nothing is
    imported or started.
    """
    client = connect_if_running(invocation)
    if client is not None:
        with client:
            rows = _running(client)
    else:
        rows = list(_installed(invocation))
    show_rows(rows, _COLUMNS, invocation.output, empty="plugins.yaml names no provider")


def _running(client: ControlClient) -> list[dict[str, Any]]:
    from innkeeper.cli import views  # noqa: PLC0415 - protobuf, which a list without a host does without

    return [views.provider(provider) for provider in client.providers()]


def _installed(invocation: Invocation) -> Iterator[dict[str, Any]]:
    settings = settings_of(invocation)
    config = load_plugins(plugins_files(invocation), keep_going=True)
    for fault in config.faults:
        talk(f"left out: {fault}", colour="yellow")
    for item in join(config, discover(index_dir=settings.cache_dir)):
        yield {
            "id": item.id,
            "title": item.title,
            "package": item.package,
            "version": item.version,
            "mode": item.mode,
            # What would be started is stopped: there is no host.
            "state": (ProviderState.STOPPED if item.starts else item.state).value,
            "reason": item.reason,
            "since": None,
            "required": item.entry.required,
            "pid": None,
            "generation": None,
            "origin": str(item.entry.origin),
        }

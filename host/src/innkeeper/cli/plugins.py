"""``innkeeper plugins``.

Rules of this module:

1. A person sees a row for each part of a provider; JSON and YAML have an object for each provider, with its parts.
2. What has no reason of its own shows its provider's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from innkeeper.cli.hosts import connect_if_running, plugins_files, settings_of
from innkeeper.cli.options import HostCommand, Invocation, OutputFormat, output_option, pass_invocation
from innkeeper.cli.output import show_one, show_rows, show_structured, talk
from innkeeper.config.plugins import load_plugins
from innkeeper.providers.catalog import join
from innkeeper.providers.discovery import discover
from innkeeper.providers.states import ProviderState
from innkeeper_sdk.documents import near_miss
from innkeeper_sdk.errors import NotFoundError

if TYPE_CHECKING:
    from innkeeper_sdk.control import ControlClient

__all__ = ["info", "list_"]

_COLUMNS: Final = {
    "id": "id",
    "part": "part",
    "mode": "mode",
    "state": "state",
    "pid": "pid",
    "generation": "generation",
    "package": "package",
    "version": "version",
    "reason": "reason",
}
_PARTS: Final = {key: title for key, title in _COLUMNS.items() if key not in ("id", "package", "version")}
_FIELDS: Final = {
    "id": "id",
    "title": "title",
    "state": "state",
    "reason": "reason",
    "since": "since",
    "package": "package",
    "version": "version",
    "mode": "mode",
    "required": "required",
    "origin": "origin",
    "capabilities": "capabilities",
}


@click.command("list", cls=HostCommand)
@output_option
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List what plugins.yaml names, part by part.

    With a running host, as it is there; without one, as far as plugins.yaml and the installed packages tell. Nothing is
    imported or started.
    """
    client = connect_if_running(invocation)
    if client is not None:
        with client:
            providers = _running(client)
    else:
        providers = list(_installed(invocation))
    if invocation.output in (OutputFormat.JSON, OutputFormat.YAML):
        show_structured(providers, invocation.output)
    else:
        rows = [row for provider in providers for row in _rows(provider)]
        show_rows(rows, _COLUMNS, invocation.output, empty="plugins.yaml names no provider")


@click.command("info", cls=HostCommand)
@click.argument("provider_id", metavar="ID")
@output_option
@pass_invocation
def info(invocation: Invocation, provider_id: str) -> None:
    """Show one provider, by the ID that plugins list shows.

    With a running host, as it is there; without one, as far as plugins.yaml and the installed packages tell. Nothing is
    imported or started.
    """
    client = connect_if_running(invocation)
    if client is not None:
        with client:
            shown = _chosen(_running(client), provider_id)
            declared = [listed.id for listed in client.capabilities() if listed.provider == provider_id]
            shown = {**shown, "capabilities": declared}
    else:
        shown = _chosen(list(_installed(invocation, capabilities=True)), provider_id)
    show_one(shown, invocation.output, fields=_FIELDS)
    if invocation.output is OutputFormat.TABLE and shown["parts"]:
        click.echo()
        show_rows(_rows(shown), _PARTS, invocation.output, empty="")
    elif invocation.output is OutputFormat.PLAIN:
        show_rows(_rows(shown), _PARTS, invocation.output, empty="")


def _running(client: ControlClient) -> list[dict[str, Any]]:
    from innkeeper.cli import views  # noqa: PLC0415 - protobuf, which a list without a host does without

    return [views.provider(provider) for provider in client.providers()]


def _installed(invocation: Invocation, *, capabilities: bool = False) -> Iterator[dict[str, Any]]:
    settings = settings_of(invocation)
    config = load_plugins(plugins_files(invocation), keep_going=True)
    for fault in config.faults:
        talk(f"left out: {fault}", colour="yellow")
    for item in join(config, discover(index_dir=settings.cache_dir)):
        # What would be started is stopped: there is no host.
        state = (ProviderState.STOPPED if item.starts else item.state).value
        shown = {
            "id": item.id,
            "title": item.title,
            "package": item.package,
            "version": item.version,
            "mode": item.mode,
            "state": state,
            "reason": item.reason,
            "since": None,
            "required": item.entry.required,
            "origin": str(item.entry.origin),
            "parts": [
                {
                    "name": part.name,
                    "mode": part.mode,
                    "state": state,
                    "reason": "",
                    "since": None,
                    "pid": None,
                    "generation": None,
                }
                for part in item.parts
            ],
        }
        if capabilities:
            document = (item.discovered.document if item.discovered is not None else None) or {}
            shown["capabilities"] = [declared["id"] for declared in document.get("capabilities", ())]
        yield shown


def _chosen(providers: Sequence[dict[str, Any]], provider_id: str) -> dict[str, Any]:
    for provider in providers:
        if provider["id"] == provider_id:
            return provider
    close = near_miss(provider_id, [provider["id"] for provider in providers])
    raise NotFoundError(
        f"plugins.yaml names no provider {provider_id[:64]!r}",
        hint=f"did you mean {close}?" if close else "innkeeper plugins list shows all",
    )


def _rows(provider: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each part of a provider, and one for a provider without parts."""
    own = {key: provider[key] for key in ("id", "package", "version")}
    parts = provider["parts"] or [{"name": "", **{key: provider[key] for key in ("mode", "state", "reason")}}]
    return [
        {**own, **part, "part": part["name"], "reason": part["reason"] or _reason(provider, part["state"])}
        for part in parts
    ]


def _reason(provider: Mapping[str, Any], state: str) -> str:
    # Of a part that is well there is nothing to say, whatever the others are.
    well = state == ProviderState.READY.value and provider["state"] != ProviderState.DEGRADED.value
    return "" if well else str(provider["reason"])

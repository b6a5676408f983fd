"""Commands that providers add by their manifests.

Rules of this module:

1. Listing them, helping with them and finding them imports nothing of a provider; a command runs in a child process.
2. Every installed provider's commands are there, whatever plugins.yaml says: a command may be what repairs it. A faulty
   provider, plugins.yaml or index takes away its own commands and no other.
3. The index may answer what there is; what is run is looked up anew, since a stale or foreign index must not choose it.
4. A provider's command finds the host that it was called for in INNKEEPER_ variables, and its words are its own: also
   ``--help`` and ``--``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from attrs import frozen

from innkeeper.cli.lazy import LazyGroup
from innkeeper.cli.options import Invocation, pass_invocation
from innkeeper_sdk.errors import ConfigError

if TYPE_CHECKING:
    from innkeeper.providers.discovery import Discovered

__all__ = ["PROVIDED", "ProvidedCommand", "declared", "installed"]


@frozen
class ProvidedCommand:
    """A command as a manifest declares it.

    Attributes:
        provider: The provider's id.
        location: Where its distribution is.
        noun: The first word.
        verb: The second word; empty for a noun that is a command.
        run: ``package.module:function``.
        help: One line.
    """

    provider: str
    location: str
    noun: str
    verb: str
    run: str
    help: str

    @property
    def words(self) -> str:
        """Return the words that call it."""
        return f"{self.noun} {self.verb}".strip()


class _Provided:
    """The commands that installed providers add."""

    def commands(self, ctx: click.Context, noun: str) -> Mapping[str, tuple[click.Command, str]]:
        """Return the commands below a noun, or the nouns themselves if it is empty, each with its line."""
        found: dict[str, tuple[click.Command, str]] = {}
        for command in declared(installed(ctx.find_object(Invocation))):
            if noun and command.noun == noun and command.verb:
                found.setdefault(command.verb, (_command(command.words), command.help))
            elif not noun and not command.verb:
                found[command.noun] = (_command(command.words), command.help)
            elif not noun and command.noun not in found:
                group = LazyGroup(command.noun, provided=self, noun=command.noun)
                found[command.noun] = (group, f"Commands of the provider {command.provider}.")
        return found

    def hint(self, ctx: click.Context, words: str) -> str:
        """Return a sentence on providers that are named but not installed, since one of them may have the command."""
        missing = list(_not_installed(ctx.find_object(Invocation)))
        if not missing:
            return ""
        return f"A provider may bring `{words}`; not installed: {', '.join(missing)}."


PROVIDED: Final = _Provided()


def installed(invocation: Invocation | None) -> tuple[Discovered, ...]:
    """Return the installed providers, from the index if there is one.

    Args:
        invocation: Whose settings say where the index is; None or faulty settings scan.
    """
    from innkeeper.providers.discovery import discover  # noqa: PLC0415 - the host's own commands do without

    return discover(index_dir=_index_dir(invocation)).providers


def _index_dir(invocation: Invocation | None) -> Path | None:
    from innkeeper.cli.hosts import settings_of  # noqa: PLC0415 - as above

    try:
        return settings_of(invocation or Invocation()).cache_dir
    except ConfigError:
        return None


def declared(providers: Iterable[Discovered]) -> Iterator[ProvidedCommand]:
    """Yield the commands that good providers declare, in their order."""
    for provider in providers:
        if provider.error is not None:
            continue
        # Discovery has checked the document against the manifest's rules; as records it would need cattrs.
        for command in (provider.document or {}).get("commands") or ():
            yield ProvidedCommand(
                provider=provider.id,
                location=provider.location,
                noun=command["noun"],
                verb=command.get("verb") or "",
                run=command["run"],
                help=command.get("help") or "",
            )


def _not_installed(invocation: Invocation | None) -> Iterator[str]:
    from innkeeper.cli.hosts import plugins_files  # noqa: PLC0415 - only after a mistake
    from innkeeper.config.packages import normalised  # noqa: PLC0415 - as above
    from innkeeper.config.plugins import load_plugins  # noqa: PLC0415 - as above

    try:
        entries = load_plugins(plugins_files(invocation or Invocation()), keep_going=True).entries
    except ConfigError:
        return
    present = {normalised(provider.distribution) for provider in installed(invocation)}
    for entry in entries:
        if entry.enabled and entry.package is not None and entry.package.name not in present:
            yield f"{entry.package.text} ({entry.origin})"


class _PassedOn(click.Command):
    """A command whose words are another program's to read; any parser of Click's would swallow a ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words as they are."""
        ctx.params["arguments"] = tuple(args)
        ctx.args = []
        return ctx.args


def _command(words: str) -> click.Command:
    return _PassedOn(words, callback=pass_invocation(partial(_run, words)), add_help_option=False)


def _run(words: str, invocation: Invocation, /, arguments: tuple[str, ...]) -> int:
    from innkeeper.cli.child import run_command  # noqa: PLC0415 - only who runs a command pays for it

    return run_command(words, arguments, invocation)

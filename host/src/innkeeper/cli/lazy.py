"""Groups of commands that import a command when it is called.

Rules of this module:

1. What ``--help`` shows of a command stands in its group, not in the command: showing it imports nothing.
2. Providers add commands by their manifests; the host's own win. They are looked up only when they are listed, or when
   a word is none of the host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol

import click

from innkeeper.cli.options import host_options

__all__ = ["LazyCommand", "LazyGroup", "Provided"]


class LazyCommand:
    """A command that is not imported yet.

    Args:
        target: ``package.module:attribute``.
        text: Its line in the list of commands.
    """

    def __init__(self, target: str, text: str) -> None:
        self.target: Final = target
        self.text: Final = text

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is no command")
        return command


class Provided(Protocol):
    """The commands that providers add."""

    def commands(self, ctx: click.Context, noun: str) -> Mapping[str, tuple[click.Command, str]]:
        """Return the commands below a noun, or the nouns themselves if it is empty, each with its line."""

    def hint(self, ctx: click.Context, words: str) -> str:
        """Return a sentence on why a command may be missing, or an empty text."""


class LazyGroup(click.Group):
    """A group of commands: those defined with its decorator, those imported when called, those of providers.

    Args:
        lazy: The second kind, by name.
        provided: Tells the commands that providers add.
        noun: Its own name as a noun; empty for the root.
    """

    def __init__(
        self,
        *args: Any,
        provided: Provided,
        lazy: Mapping[str, LazyCommand] | None = None,
        noun: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}
        self._provided = provided
        self.noun = noun
        self.params = [*self.params, *host_options()]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the host's commands, then those that providers add."""
        own = [*self._lazy, *self.commands]
        return own + [name for name in sorted(self._provided.commands(ctx, self.noun)) if name not in own]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        if cmd_name in self._lazy:
            return self._lazy[cmd_name].load()
        command, _ = self._provided.commands(ctx, self.noun).get(cmd_name, (None, ""))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the next word names.

        Raises:
            click.UsageError: It names none; near ones are suggested.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            hint = self._provided.hint(ctx, f"{self.noun} {error.command_name}".strip())
            message = " ".join(filter(None, (error.message, hint)))
            raise click.exceptions.NoSuchCommand(
                error.command_name, message, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        rows = [(name, command.text) for name, command in self._lazy.items()]
        rows += [(name, command.get_short_help_str(limit=100)) for name, command in self.commands.items()]
        own = {name for name, _ in rows}
        provided = self._provided.commands(ctx, self.noun)
        rows += [(name, text) for name, (_, text) in sorted(provided.items()) if name not in own]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

"""What every command takes: which host it is about, and the form of its output.

Rules of this module:

1. Each of these options may stand before or after the command's words; the last one counts, ``--plugins`` adds up.
2. ``innkeeper.yaml`` is ``--settings``, since ``--config`` is a workflow's configuration; the host's name is
   ``--host-name``, since ``--name`` is a workflow's name.
3. Nothing is opened or checked here: a command that needs no settings works with broken ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["HostCommand", "Invocation", "OutputFormat", "host_options", "output_option", "pass_invocation"]

_F = TypeVar("_F", bound=Callable[..., Any])


class OutputFormat(Enum):
    """The form of a command's data."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    PLAIN = "plain"


class Invocation:
    """What the options of one command line say.

    Attributes:
        plugins: The files of ``--plugins``, each once.
        settings_file: The file of ``--settings``.
        flags: The settings given as flags, by their names in innkeeper.yaml.
        output: The form of the data.
    """

    def __init__(self) -> None:
        self.plugins: list[Path] = []
        self.settings_file: Path | None = None
        self.flags: dict[str, str] = {}
        self.output = OutputFormat.TABLE


pass_invocation = click.make_pass_decorator(Invocation)


def host_options() -> list[click.Parameter]:
    """Return the options that say which host a command is about."""
    file = click.Path(path_type=Path)
    return [
        click.Option(
            ["--plugins"],
            type=file,
            multiple=True,
            metavar="FILE",
            expose_value=False,
            callback=_add_plugins,
            help="What the host loads; may be repeated. Default: INNKEEPER_PLUGINS, else ./plugins.yaml.",
        ),
        click.Option(
            ["--settings"],
            type=file,
            envvar="INNKEEPER_SETTINGS",
            metavar="FILE",
            expose_value=False,
            callback=_set_file,
            help="The host's settings. Default: INNKEEPER_SETTINGS, else innkeeper.yaml beside plugins.yaml.",
        ),
        _setting("--data-dir", "DIR", "Where the host keeps what stays."),
        _setting("--runtime-dir", "DIR", "Where the host's sockets are."),
        _setting("--host-name", "NAME", "Which of this user's hosts. Default: default.", key="name"),
    ]


def output_option(command: _F) -> _F:
    """Give a command ``-o``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([form.value for form in OutputFormat]),
        default=OutputFormat.TABLE.value,
        show_default=True,
        expose_value=False,
        callback=_set_output,
        # So that a fault in another option is told in this form.
        is_eager=True,
        help="The form of the output.",
    )(command)


class HostCommand(click.Command):
    """A command that takes the host's options, shown apart from its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.host_options: Sequence[click.Parameter] = host_options()
        self.params = [*self.params, *self.host_options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the host's."""
        shared = self.host_options
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option) and p not in shared]
        for title, records in (
            ("Options", [r for p in options if (r := p.get_help_record(ctx))]),
            ("Options of every command", [r for p in shared if (r := p.get_help_record(ctx))]),
        ):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _setting(flag: str, metavar: str, text: str, *, key: str | None = None) -> click.Option:
    name = key or flag.removeprefix("--").replace("-", "_")

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.ensure_object(Invocation).flags[name] = value

    return click.Option([flag], metavar=metavar, expose_value=False, callback=keep, help=text)


def _add_plugins(ctx: click.Context, _: click.Parameter, value: tuple[Path, ...]) -> None:
    plugins = ctx.ensure_object(Invocation).plugins
    plugins += [path for path in value if path not in plugins]


def _set_file(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).settings_file = value


def _set_output(ctx: click.Context, _: click.Parameter, value: str) -> None:
    ctx.ensure_object(Invocation).output = OutputFormat(value)

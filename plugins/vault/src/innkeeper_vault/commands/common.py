"""What the commands have in common: which vault, whose secret, and the form of the output.

Rules of this module:

1. A command works on the directory of the host that it was called for, whether that runs or not; the host says which in
   the variables of the command's process.
2. No value is taken from the command line or from a variable, and none is ever shown.
3. Names and namespaces are brought into NFC, and the namespace is normalised, before anything is compared.
4. A blank at the end of a name is a mistake that nobody sees: no secret is set under such a name. The protocol takes
   it, so what has one can still be listed and deleted.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from innkeeper_confidential_workflows.protocol.bodies import SecretName
from innkeeper_sdk.errors import ConfigError, ExitCode
from innkeeper_sdk.namespaces import DEFAULT_NAMESPACE, normalise
from innkeeper_vault.errors import SecretInvalidError
from innkeeper_vault.records import SecretEntry, check_name
from innkeeper_vault.store import SecretStore

__all__ = [
    "DEFAULT_OWNER",
    "OutputFormat",
    "SecretCommand",
    "name_argument",
    "name_of",
    "namespace_of",
    "namespace_option",
    "new_name_of",
    "open_store",
    "output_option",
    "owner_of",
    "owner_option",
    "row_of",
    "run",
    "show_structured",
    "talk",
]

DEFAULT_OWNER: Final = "the host's, which is default_owner in innkeeper.yaml, or forty zeros"

DIRECTORY_VARIABLE: Final = "INNKEEPER_PROVIDER_DIR"
OWNER_VARIABLE: Final = "INNKEEPER_OWNER"

_OWNER: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]{40})", re.ASCII)

_F = TypeVar("_F", bound=Callable[..., Any])


class SecretCommand(click.Command):
    """A command with ``-h`` beside ``--help``, as the host's own commands have it."""

    context_settings: MutableMapping[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings["help_option_names"] = ["-h", "--help"]


class OutputFormat(Enum):
    """The form of a command's data."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    PLAIN = "plain"


def run(command: click.Command, prog: str, arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code.

    Args:
        command: The command.
        prog: What it calls itself.
        arguments: Its words.

    Raises:
        InnkeeperError: It failed.
    """
    try:
        with command.make_context(prog, list(arguments)) as context:
            command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def name_argument(command: _F) -> _F:
    """Give a command the secret's name."""
    return click.argument("name")(command)


def namespace_option(command: _F) -> _F:
    """Give a command ``--namespace``."""
    return click.option(
        "--namespace", metavar="NAMESPACE", default="", help=f"Its namespace. Default: {DEFAULT_NAMESPACE}."
    )(command)


def owner_option(whose: str, default: str) -> Callable[[_F], _F]:
    """Give a command ``--owner``.

    Args:
        whose: What it says, for the help.
        default: What holds without it, for the help.
    """
    forms = "40 hexadecimal digits in upper or lower case, with or without 0x"
    return click.option("--owner", metavar="OWNER", help=f"{whose}: {forms}. Default: {default}.")


def output_option(command: _F) -> _F:
    """Give a command ``-o``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([form.value for form in OutputFormat]),
        default=OutputFormat.TABLE.value,
        show_default=True,
        callback=lambda _ctx, _parameter, value: OutputFormat(value),
        help="The form of the output.",
    )(command)


def open_store(environ: Mapping[str, str] = os.environ) -> SecretStore:
    """Return the store of the host that the command was called for; nothing is made or read yet.

    Raises:
        ConfigError: The host did not say where it is.
    """
    directory = environ.get(DIRECTORY_VARIABLE)
    if not directory or not Path(directory).is_absolute():
        raise ConfigError(
            "where the vault is, is not known",
            path=DIRECTORY_VARIABLE,
            expected="the vault's directory, as `innkeeper` sets it for its commands when its settings are valid",
            hint="`innkeeper status` says what is wrong with the settings",
        )
    return SecretStore(Path(directory))


def owner_of(text: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return whose secret is meant: 40 hexadecimal digits, lower case.

    Args:
        text: What ``--owner`` says, or None.
        environ: Where the host says who the default owner is.

    Raises:
        SecretInvalidError: ``--owner`` is no owner.
        ConfigError: There is no default.
    """
    given = environ.get(OWNER_VARIABLE) if text is None else text
    match = _OWNER.fullmatch(given or "")
    if match is not None:
        return match[1].lower()
    if text is None:
        raise ConfigError("whose the secret is, is not known", path=OWNER_VARIABLE, hint="give --owner")
    raise SecretInvalidError(
        "not an owner", path="--owner", expected="40 hexadecimal digits, with or without 0x", actual=repr(text[:64])
    )


def name_of(name: str, namespace: str) -> SecretName:
    """Return which secret is meant; whether there can be such a one is the store's to say."""
    return SecretName(_composed_namespace(namespace), unicodedata.normalize("NFC", name))


def new_name_of(name: str, namespace: str) -> SecretName:
    """Return which secret is to be set; see rule 4. It is known before its value is asked for.

    Raises:
        SecretInvalidError: There can be no such secret, or a name begins or ends with a blank.
    """
    secret = name_of(name, namespace)
    for what, text in (("namespace", secret.namespace), ("name", secret.key)):
        check_name(what, text)
        if not text.strip():
            raise SecretInvalidError(f"the {what} is blank", expected="a character that can be seen", actual=repr(text))
        if text != text.strip():
            raise SecretInvalidError(f"the {what} begins or ends with a blank", actual=repr(text))
    return secret


def namespace_of(text: str) -> str:
    """Return which namespace is meant.

    Raises:
        SecretInvalidError: There can be no such namespace.
    """
    namespace = _composed_namespace(text)
    check_name("namespace", namespace)
    return namespace


def _composed_namespace(text: str) -> str:
    return normalise(unicodedata.normalize("NFC", text))


def row_of(entry: SecretEntry) -> dict[str, Any]:
    """Return what is shown of a secret."""
    return {
        "name": entry.key,
        "namespace": entry.namespace,
        "owner": entry.owner,
        "version": entry.version,
        "updated": entry.updated.isoformat(timespec="milliseconds"),
    }


def show_structured(data: Any, output: OutputFormat) -> None:
    """Print data whole: as YAML if that was asked for, else as JSON."""
    if output is OutputFormat.YAML:
        import yaml  # noqa: PLC0415 - only this form pays for it

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))


def talk(text: str) -> None:
    """Say something to the person, on stderr."""
    click.echo(text, err=True)

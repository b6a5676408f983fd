"""``{$env: NAME}`` and ``{$file: PATH}``: values that do not stand in plugins.yaml.

Rules of this module:

1. References are resolved when a provider starts, in ``config`` and ``env``, and nowhere else.
2. What they stand for is text, and it is secret: its ``repr`` hides it, and ``redact`` takes it out of messages.
3. A reference that cannot be resolved is an error that names the variable or the file, never what is in it.
4. A file is relative to the plugins.yaml that names it; one line's end at its own end is not part of the value.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from innkeeper_sdk.documents import MapNode, ScalarNode
from innkeeper_sdk.errors import ConfigError

__all__ = ["SecretText", "has_reference", "is_reference", "redact", "reference_fault", "resolve", "secrets_in"]

_ENV: Final = "$env"
_FILE: Final = "$file"
_HIDDEN: Final = "<secret>"
# A key, a certificate chain: more is no secret that belongs in a configuration.
_MAX_FILE: Final = 256 * 1024


class SecretText(str):
    """A text whose ``repr`` does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return a stand-in."""
        return _HIDDEN


def is_reference(value: object) -> bool:
    """Return whether a value is a reference; of parsed entries only references have keys with a dollar."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in (_ENV, _FILE)


def has_reference(value: object) -> bool:
    """Return whether a value is a reference or contains one."""
    if is_reference(value):
        return True
    if isinstance(value, Mapping):
        return any(has_reference(inner) for inner in value.values())
    return isinstance(value, list) and any(has_reference(inner) for inner in value)


def reference_fault(node: MapNode, *, needed: bool = False) -> str | None:
    """Return what is wrong with a mapping as a reference, None if it is a good one or no attempt at one.

    Args:
        node: The mapping.
        needed: Whether it must be one.
    """
    dollars = [key for key in node.values if key.startswith("$")]
    if not dollars:
        return "not a reference" if needed else None
    if len(node.values) > 1:
        return "a reference stands alone in its mapping"
    if dollars[0] not in (_ENV, _FILE):
        return f"{dollars[0]} is no reference"
    target = node.values[dollars[0]]
    if not isinstance(target, ScalarNode) or not isinstance(target.value, str) or not target.text.strip():
        return f"{dollars[0]} names nothing"
    return None


def resolve(value: Any, *, base: Path, environ: Mapping[str, str]) -> Any:
    """Return a value with every reference replaced.

    Args:
        value: JSON-able values with references.
        base: The directory that files are relative to.
        environ: The variables.

    Raises:
        ConfigError: A variable is not set, or a file cannot be read.
    """
    if is_reference(value):
        ((kind, name),) = value.items()
        return _variable(name, environ) if kind == _ENV else _file(base / name)
    if isinstance(value, Mapping):
        return {key: resolve(inner, base=base, environ=environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, base=base, environ=environ) for inner in value]
    return value


def secrets_in(value: object) -> set[str]:
    """Return every secret text in a resolved value."""
    if isinstance(value, SecretText):
        return {str(value)}
    if isinstance(value, Mapping):
        return set[str]().union(*(secrets_in(inner) for inner in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(secrets_in(inner) for inner in value))
    return set()


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the secrets that may be in it.

    Args:
        text: A message, perhaps of somebody else's exception.
        secrets: What must not be shown. A secret of several lines is taken out line by line, too.
    """
    parts = {part for secret in secrets for part in (secret, *secret.splitlines()) if part.strip()}
    for part in sorted(parts, key=len, reverse=True):
        # An exception's text may have it as repr() writes it.
        for form in (part, repr(part)[1:-1]):
            text = text.replace(form, _HIDDEN)
    return text


def _variable(name: str, environ: Mapping[str, str]) -> SecretText:
    try:
        return SecretText(environ[name])
    except KeyError:
        raise ConfigError(f"the variable {name} is not set", hint=f"set {name}, or change the reference") from None


def _file(path: Path) -> SecretText:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1) if stat.S_ISREG(path.stat().st_mode) else None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    if content is None or len(content) > _MAX_FILE:
        raise ConfigError(f"{path} is no secret's file", expected=f"a file of at most {_MAX_FILE} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # The error would carry the file's bytes.
        raise ConfigError(f"{path} is not UTF-8", path=str(path)) from None
    return SecretText(text.removesuffix("\n").removesuffix("\r"))

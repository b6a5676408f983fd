"""The host's settings: innkeeper.yaml, variables and flags.

Rules of this module:

1. A flag goes before its ``INNKEEPER_*`` variable, that before the file, that before the default. All faults of all of
   them are told together, each with its origin.
2. ``environment`` is the only switch between production and development, and it is production unless somebody says
   otherwise.
3. Reading settings makes nothing and opens no directory: ``prepare`` does, before a host starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from innkeeper.config.directories import ensure_private, private_fault
from innkeeper.config.yaml import FaultyConfigError, Reader, Scalar, is_null, read_file, read_text
from innkeeper_sdk.control_socket import SOCKET_NAME, check_socket_path
from innkeeper_sdk.documents import MapNode, Node, Origin, ScalarNode, near_miss

__all__ = ["DEVELOPMENT", "PRODUCTION", "Settings", "find_settings_file", "load_settings", "prepare"]

# Flags that are not named as their settings: those names are taken by what a command is about.
_FLAGS: Final = {"name": "--host-name", "environment": "--dev"}

SETTINGS_NAME: Final = "innkeeper.yaml"
PRODUCTION: Final = "production"
DEVELOPMENT: Final = "development"

_ENVIRONMENTS: Final = {PRODUCTION: PRODUCTION, DEVELOPMENT: DEVELOPMENT}
_VARIABLE_PREFIX: Final = "INNKEEPER_"
_KEYS: Final = (
    "name",
    "environment",
    "data_dir",
    "cache_dir",
    "runtime_dir",
    "database_url",
    "default_owner",
    "limits",
)
# A directory below the runtime directory; short, since it is part of a socket's path.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_OWNER: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{40}", re.ASCII)
_WORKFLOW: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_URL: Final = re.compile(r"[a-z0-9+]+://.*", re.ASCII)
_NO_OWNER: Final = "0" * 40


@frozen
class Settings:
    """The host's settings.

    Attributes:
        name: Which of this user's hosts.
        environment: ``production`` or ``development``.
        data_dir: What stays: database, keys.
        cache_dir: What may be emptied at any time.
        runtime_dir: What goes with the host: sockets, below a directory with the host's name.
        database_url: An SQLAlchemy URL; may hold a password.
        default_owner: Whose a workflow is when nobody says: 40 hexadecimal digits, without ``0x``.
        limits: Limits as set: ``global``, ``owner.<40 hex>`` or ``workflow.<64 hex>``, to dotted name, to value.
        origins: Where each setting was made, by its dotted path (``limits.global.PerWorkflow.LogLineLimit``): a file's
            place, a variable, a flag. What is not in it is a default.
        warnings: Variables that look like a setting but are none.
    """

    name: str
    environment: str
    data_dir: Path
    cache_dir: Path
    runtime_dir: Path
    database_url: str = field(repr=False)
    default_owner: str = _NO_OWNER
    limits: Mapping[str, Mapping[str, Scalar]] = field(factory=dict)
    origins: Mapping[str, Origin] = field(factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def socket_dir(self) -> Path:
        """The directory of this host's sockets."""
        return self.runtime_dir / self.name

    @property
    def control_socket(self) -> Path:
        """The control socket."""
        return self.socket_dir / SOCKET_NAME


def find_settings_file(flag: Path | None, plugins_files: Sequence[Path]) -> Path | None:
    """Return the settings file: the one given, else the one beside the first plugins.yaml, else None.

    Args:
        flag: The file of ``--settings``, or None.
        plugins_files: What ``find_plugins_files`` returned.
    """
    if flag is not None:
        return flag
    beside = plugins_files[0].parent / SETTINGS_NAME if plugins_files else None
    # os.path.exists, unlike Path's, takes a directory that cannot be looked into for one that holds nothing.
    return beside if beside is not None and os.path.exists(beside) else None


def load_settings(
    *, file: Path | None = None, flags: Mapping[str, str | Path | None] | None = None, environ: Mapping[str, str]
) -> Settings:
    """Read the settings.

    Args:
        file: innkeeper.yaml, or None for none.
        flags: Settings given as flags, by their names in innkeeper.yaml; None is the same as not given.
        environ: The variables.

    Returns:
        The settings, with defaults for the rest.

    Raises:
        ConfigError: The file cannot be read; or, as ``FaultyConfigError``, something is not valid.
    """
    reader = _SettingsReader()
    if file is not None:
        reader.take_file(file)
    reader.take_variables(environ)
    reader.take_flags(flags or {})
    if reader.faults:
        raise FaultyConfigError(reader.faults)
    return reader.settings(environ)


def prepare(settings: Settings) -> None:
    """Make the host's directories, and check that they are private and that sockets fit.

    Raises:
        ConfigError: One cannot be made, others could write there, or a socket's path would be too long.
    """
    check_socket_path(settings.control_socket)
    ensure_private(settings.data_dir, what="data directory")
    ensure_private(settings.cache_dir, what="cache directory")
    ensure_private(settings.runtime_dir, what="runtime directory", follow=False)
    ensure_private(settings.socket_dir, what="runtime directory", follow=False)


class _SettingsReader(Reader):
    """Gathers settings; what is taken later goes before what was taken earlier."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, Any] = {}
        self._limits: dict[str, dict[str, Scalar]] = {}
        self._origins: dict[str, Origin] = {}
        self._warnings: list[str] = []

    def take_file(self, file: Path) -> None:
        """Take a file's settings; paths in it are relative to it."""
        root, faults = read_file(file)
        self.faults += faults
        if root is None or is_null(root):
            return
        for key, node in self.mapping(root, "", known=_KEYS).items():
            if not is_null(node):
                self._take(key, node, base=file.parent)

    def take_variables(self, environ: Mapping[str, str]) -> None:
        """Take the settings of variables; paths in them are relative to the working directory."""
        names = {f"{_VARIABLE_PREFIX}{key.upper()}": key for key in _KEYS}
        for variable, value in environ.items():
            if not variable.startswith(_VARIABLE_PREFIX) or not value:
                continue
            if variable not in names:
                # Without the prefix: with it, any two would be near.
                close = near_miss(variable.removeprefix(_VARIABLE_PREFIX), _KEYS)
                if close is not None:
                    meant = f"{_VARIABLE_PREFIX}{close.upper()}"
                    self._warnings.append(f"the variable {variable} sets nothing; did you mean {meant}?")
                continue
            node: Node | None = ScalarNode(Origin(variable), value, value, bare=True)
            if names[variable] == "limits":
                node, faults = read_text(value, file=variable)
                self.faults += faults
            if node is not None:
                self._take(names[variable], node, base=Path.cwd())

    def take_flags(self, flags: Mapping[str, str | Path | None]) -> None:
        """Take the settings of flags."""
        for key, value in flags.items():
            if value is not None:
                origin = Origin(_FLAGS.get(key, f"--{key.replace('_', '-')}"))
                self._take(key, ScalarNode(origin, str(value), str(value), bare=True), base=Path.cwd())

    def settings(self, environ: Mapping[str, str]) -> Settings:
        """Return what was gathered, with defaults for the rest."""
        import platformdirs  # noqa: PLC0415 - only who has come this far needs it

        values = dict(self._values)
        name = values.setdefault("name", "default")
        values.setdefault("environment", PRODUCTION)
        data = values.setdefault("data_dir", platformdirs.user_data_path("innkeeper") / name)
        values.setdefault("cache_dir", platformdirs.user_cache_path("innkeeper") / name)
        values.setdefault("runtime_dir", self._runtime_dir(environ))
        values.setdefault("database_url", f"sqlite+aiosqlite:///{data / 'innkeeper.db'}")
        return Settings(**values, limits=self._limits, origins=self._origins, warnings=tuple(self._warnings))

    def _take(self, key: str, node: Node, *, base: Path) -> None:
        if key == "limits":
            self._take_limits(node)
            return
        readers: Mapping[str, Callable[[Node, str], Any]] = {
            "name": lambda n, p: self._matching(n, p, _NAME, "lower-case letters, digits, _ and -, at most 32"),
            "environment": lambda n, p: self.word(n, p, _ENVIRONMENTS),
            "data_dir": lambda n, p: self._directory(n, p, base),
            "cache_dir": lambda n, p: self._directory(n, p, base),
            "runtime_dir": lambda n, p: self._directory(n, p, base),
            "database_url": self._database,
            "default_owner": self._owner,
        }
        value = readers[key](node, key)
        if value is not None:
            self._values[key] = value
            self._origins[key] = node.origin

    def _take_limits(self, node: Node) -> None:
        for scope, inner in self.mapping(node, "limits", known=("global", "owner", "workflow")).items():
            path = f"limits.{scope}"
            if is_null(inner):
                continue
            if scope == "global":
                self._set_limits("global", inner, path)
                continue
            pattern, form = (_OWNER, "40") if scope == "owner" else (_WORKFLOW, "64")
            for id_, limits in self.mapping(inner, path).items():
                if not pattern.fullmatch(id_):
                    origin = inner.keys[id_] if isinstance(inner, MapNode) else inner.origin
                    self.fault(origin, f"{path}.{id_}", f"no {scope}", expected=f"{form} hexadecimal digits")
                elif not is_null(limits):
                    self._set_limits(f"{scope}.{id_.removeprefix('0x').lower()}", limits, f"{path}.{id_}")

    def _set_limits(self, scope: str, node: Node, path: str) -> None:
        for name, (value, origin) in self.scalars(node, path).items():
            self._limits.setdefault(scope, {})[name] = value
            self._origins[f"limits.{scope}.{name}"] = origin

    def _matching(self, node: Node, path: str, pattern: re.Pattern[str], expected: str) -> str | None:
        text = self.text(node, path, expected)
        if text is not None and not pattern.fullmatch(text):
            self.misfit(node, path, expected)
            return None
        return text

    def _owner(self, node: Node, path: str) -> str | None:
        text = self._matching(node, path, _OWNER, "40 hexadecimal digits, with or without 0x")
        return None if text is None else text.removeprefix("0x").lower()

    def _directory(self, node: Node, path: str, base: Path) -> Path | None:
        text = self.text(node, path, "a directory")
        if text is None:
            return None
        try:
            return (base / Path(text).expanduser()).absolute()
        except RuntimeError:
            self.misfit(node, path, "a directory; there is no such user")
            return None

    def _database(self, node: Node, path: str) -> str | None:
        text = self.text(node, path, "a database's URL")
        if text is not None and not _URL.fullmatch(text):
            # What was found may be a password.
            self.fault(node.origin, path, "no database's URL", expected="one such as sqlite+aiosqlite:///FILE")
            return None
        return text

    def _runtime_dir(self, environ: Mapping[str, str]) -> Path:
        """Return where sockets are when nobody says: the session's own directory, else one in /tmp, as tmux has it.

        The data directory would be as private, but its path is often too long for a socket.
        """
        session = Path(environ.get("XDG_RUNTIME_DIR", ""))
        if session.is_absolute():
            try:
                fault = private_fault(session.stat())
            except OSError as error:
                fault = f"cannot be used: {error.strerror}"
            if fault is None:
                return session / "innkeeper"
            self._warnings.append(f"XDG_RUNTIME_DIR is not used: {session} {fault}")
        return Path(f"/tmp/innkeeper-{os.geteuid()}")  # noqa: S108 - made 0700; another's directory there is refused

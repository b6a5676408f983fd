"""plugins.yaml: what this host loads.

Rules of this module:

1. Several files make one configuration. What is faulty is told all at once, each with file, line and column.
2. Duplicates are faults: in one file every entry counts, across files only enabled ones do, as in the reference.
   Modules of Go that are only built are told apart by the reference's key (group, module and path); everything else by
   its id, which for a package without one is its name, and for a module its group.
3. With ``keep_going`` faulty entries are left out, all of those that share an id or a key too; a file that cannot be
   read, or that is no mapping, leaves nothing to keep, and a required entry cannot be left out.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from innkeeper.config.entries import PluginEntry, read_entry
from innkeeper.config.yaml import FaultyConfigError, Reader, is_null, read_file
from innkeeper_sdk.documents import Fault, Node, Origin, ScalarNode
from innkeeper_sdk.errors import ConfigError

__all__ = ["Defaults", "PluginsConfig", "find_plugins_files", "load_plugins"]

PLUGINS_NAME: Final = "plugins.yaml"
PLUGINS_VARIABLE: Final = "INNKEEPER_PLUGINS"

_VERSION: Final = "1"


@frozen
class Defaults:
    """Build settings of a file's modules of Go.

    Attributes:
        goflags: Flags put before an entry's own.
        envvars: Build environment, ``KEY=VALUE`` each.
    """

    goflags: str = ""
    envvars: tuple[str, ...] = ()


@frozen
class PluginsConfig:
    """What plugins.yaml says.

    Attributes:
        entries: Every good entry, disabled ones too, in the order of the files.
        faults: What was left out because of ``keep_going``.
        defaults: Build settings, by file.
        files: The files read.
    """

    entries: tuple[PluginEntry, ...]
    faults: tuple[Fault, ...] = ()
    defaults: Mapping[str, Defaults] = field(factory=dict)
    files: tuple[Path, ...] = ()


@frozen
class _Placed:
    """An entry that was read, with its faults."""

    entry: PluginEntry
    file: int
    faults: list[Fault]


def find_plugins_files(flags: Sequence[Path], environ: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """Return the files that say what to load.

    Args:
        flags: The files of ``--plugins``.
        environ: The variables; ``INNKEEPER_PLUGINS`` holds paths with ``:`` between.
        cwd: Where ``plugins.yaml`` is looked for.

    Raises:
        ConfigError: There is none.
    """
    if flags:
        return tuple(flags)
    named = [Path(part) for part in environ.get(PLUGINS_VARIABLE, "").split(os.pathsep) if part]
    if named:
        return tuple(named)
    default = cwd / PLUGINS_NAME
    if default.exists():
        return (default,)
    raise ConfigError(
        f"no plugins.yaml was found in {cwd}",
        expected=f"--plugins FILE, {PLUGINS_VARIABLE}, or ./{PLUGINS_NAME}",
        hint="a first one is `plugins: {}`",
    )


def load_plugins(paths: Sequence[Path], *, keep_going: bool = False) -> PluginsConfig:
    """Read plugins.yaml.

    Args:
        paths: The files, in order.
        keep_going: Leave out faulty entries instead of refusing everything.

    Returns:
        The entries, and with ``keep_going`` the faults of those left out.

    Raises:
        ConfigError: A file cannot be read; or, as ``FaultyConfigError``, something is not valid.
    """
    fatal: list[Fault] = []
    placed: list[_Placed] = []
    defaults: dict[str, Defaults] = {}
    seen: dict[Path, Path] = {}
    for number, path in enumerate(paths):
        known = seen.setdefault(path.resolve(), path)
        if known is not path:
            fatal.append(Fault(Origin(str(path)), "the file is given twice", actual=f"{known} before it"))
            continue
        root, faults = read_file(path)
        fatal += faults
        reader = Reader()
        if root is None and not faults:
            reader.fault(Origin(str(path)), "", "the file is empty", expected="a mapping with plugins")
        elif root is not None:
            defaults[str(path)] = _read_root(reader, root, number, placed)
        fatal += reader.faults
    _find_duplicates(placed)
    faults = (*fatal, *(fault for item in placed for fault in item.faults))
    needed = any(item.faults and item.entry.required and item.entry.enabled for item in placed)
    if faults and (not keep_going or fatal or needed):
        hint = None
        if keep_going:
            hint = "--keep-going leaves out faulty entries, but neither a file's own faults nor a required entry"
        raise FaultyConfigError(sorted(faults, key=lambda fault: _place(fault, paths)), hint=hint)
    good = tuple(item.entry for item in placed if not item.faults)
    return PluginsConfig(good, tuple(faults), defaults, tuple(paths))


def _place(fault: Fault, paths: Sequence[Path]) -> tuple[int, int, int]:
    names = [str(path) for path in paths]
    return names.index(fault.origin.file), fault.origin.line, fault.origin.column


def _read_root(reader: Reader, root: Node, number: int, placed: list[_Placed]) -> Defaults:
    values = reader.mapping(root, "", known=("version", "defaults", "plugins"))
    version = values.get("version")
    if version is not None and not (isinstance(version, ScalarNode) and version.text == _VERSION):
        reader.misfit(version, "version", _VERSION)
    if "plugins" not in values and not reader.faults:
        reader.fault(root.origin, "plugins", "the key is missing", expected="the plugins by name, or {}")
    plugins = values.get("plugins")
    if plugins is not None and not is_null(plugins):
        for group, nodes in reader.mapping(plugins, "plugins").items():
            if is_null(nodes):
                continue
            for index, node in enumerate(reader.items(nodes, f"plugins.{group}", "a list of entries")):
                entry, faults = read_entry(node, group=group, index=index)
                placed.append(_Placed(entry, number, faults))
    return _read_defaults(reader, values.get("defaults"))


def _read_defaults(reader: Reader, node: Node | None) -> Defaults:
    if node is None or is_null(node):
        return Defaults()
    values = reader.mapping(node, "defaults", known=("goflags", "envvars"))
    goflags, envvars = values.get("goflags"), values.get("envvars")
    flags = "" if goflags is None or is_null(goflags) else reader.text(goflags, "defaults.goflags") or ""
    try:
        shlex.split(flags)
    except ValueError as error:
        reader.fault(values["goflags"].origin, "defaults.goflags", f"cannot be split into words: {error}")
    if envvars is None or is_null(envvars):
        return Defaults(flags)
    return Defaults(flags, reader.texts(envvars, "defaults.envvars"))


def _find_duplicates(placed: Iterable[_Placed]) -> None:
    groups: dict[tuple[str, str], list[_Placed]] = {}
    for item in placed:
        for key in _keys(item.entry):
            groups.setdefault(key, []).append(item)
    for (kind, name), items in groups.items():
        counted = _counted(items)
        if len(counted) < 2 or (kind == "id" and all(item.entry.built_only for item in counted)):
            continue
        for item in counted:
            others = ", ".join(str(other.entry.origin) for other in counted if other is not item)
            message = f"the {kind} {name!r} is given more than once, also in {others}"
            hint = None if kind == "module" else "give each an id of its own"
            item.faults.append(Fault(item.entry.origin, message, item.entry.path, hint=hint))


def _keys(entry: PluginEntry) -> Iterable[tuple[str, str]]:
    if entry.reference_key is not None:
        yield "module", entry.reference_key
        yield "id", entry.id or entry.group
    elif entry.id is not None:
        yield "id", entry.id
    elif entry.package is not None:
        yield "package", entry.package.name or entry.package.text


def _counted(items: Sequence[_Placed]) -> list[_Placed]:
    """Return those that count as duplicates of each other."""
    counted = []
    for item in items:
        same_file = any(other is not item and other.file == item.file for other in items)
        enabled_elsewhere = item.entry.enabled and any(
            other.file != item.file and other.entry.enabled for other in items
        )
        if same_file or enabled_elsewhere:
            counted.append(item)
    return counted

"""One entry of plugins.yaml.

Rules of this module:

1. The reference's keys keep their rules: what its installer accepts, we accept. Its installer ignores what it does not
   know and checks only what it builds; here unknown keys are faults, and its patterns hold for every enabled entry. Its
   list of forbidden words in build flags is not applied: no shell sees them, and it refuses ``-tags=added``.
2. An entry has ``package`` or ``moduleURI``. A key that the other one would need is a fault, never ignored.
3. Of a disabled entry only its shape is checked.
4. References in ``config`` and ``env`` are checked for their form and left alone: ``references`` resolves them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from innkeeper.config.packages import Package, parse_package
from innkeeper.config.references import reference_fault
from innkeeper.config.yaml import Reader, Scalar, is_null
from innkeeper_sdk.documents import Fault, ListNode, MapNode, Node, Origin, ScalarNode, plain
from innkeeper_sdk.manifest_ids import CAPABILITY_ID, CAPABILITY_ID_LENGTH, HOST_ID, PROVIDER_ID

if TYPE_CHECKING:
    from innkeeper_sdk.capability import Visibility

__all__ = ["ENTRY_KEYS", "EVERY", "PluginEntry", "read_entry"]

# In ``visibility``: every capability of the entry.
EVERY: Final = "*"

_GO_KEYS: Final = ("moduleURI", "gitRef", "installPath", "libs", "flags", "envvars")
_OUR_KEYS: Final = (
    "id",
    "package",
    "mode",
    "required",
    "visibility",
    "grants",
    "capabilities",
    "restart",
    "limits",
    "env",
    "config",
)
ENTRY_KEYS: Final = ("enabled", *_GO_KEYS, *_OUR_KEYS)
# Where `key:` with nothing behind it is the same as no key, as it is for Go; elsewhere it says too little to act on.
_MAY_BE_EMPTY: Final = frozenset(("enabled", *_GO_KEYS, "grants", "capabilities", "restart", "limits", "env", "config"))

# chainlink-common, loopinstall/validation.go; its nested groups match the same texts.
_URI: Final = re.compile(r"[\w./-]+", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MODES: Final = {"host": "host", "loop": "loop"}


@frozen
class PluginEntry:
    """One entry of plugins.yaml.

    Attributes:
        group: The name that it stands under (the reference's ``<type>``).
        path: Where it stands: ``plugins.<group>[<index>]``.
        origin: The same as file, line and column.
        id: The id given, or None.
        enabled: Whether the host loads it.
        package: What provides it, or None for a module of Go.
        module_uri: A module of Go: its path, or a directory. None for a package.
        git_ref: Its tag, branch, hash or pseudo-version; may be empty.
        install_path: The package to build in it.
        libs: Globs of shared libraries that it needs.
        flags: Build flags, as one text.
        envvars: Build environment, ``KEY=VALUE`` each.
        mode: Where capabilities run that can run in either place: ``host``, ``loop``, or None for the default.
        required: Whether the host stops when it fails.
        visibility: Capability id, or ``*`` for all, to the visibility asked for.
        grants: Ids of internal capabilities that it may call.
        capabilities: Of a module of Go that is started: the ids it may register, with their visibility. Else None.
        restart: How its processes are restarted.
        limits: Values of limits that its provider declares, by dotted name, with their origins.
        env: Environment of its processes; values may be references.
        config: Its configuration, with references; None if it has none.
        config_node: The same with origins.
    """

    group: str
    path: str
    origin: Origin
    id: str | None = None
    enabled: bool = True
    package: Package | None = None
    module_uri: str | None = None
    git_ref: str = ""
    install_path: str = ""
    libs: tuple[str, ...] = ()
    flags: str = ""
    envvars: tuple[str, ...] = ()
    mode: str | None = None
    required: bool = False
    visibility: Mapping[str, Visibility] = field(factory=dict)
    grants: tuple[str, ...] = ()
    capabilities: Mapping[str, Visibility] | None = None
    restart: Mapping[str, Any] = field(factory=dict)
    limits: Mapping[str, tuple[Scalar, Origin]] = field(factory=dict)
    env: Mapping[str, Any] = field(factory=dict)
    config: Mapping[str, Any] | None = None
    config_node: Node | None = field(default=None, repr=False, eq=False)

    @property
    def built_only(self) -> bool:
        """Whether it is a module of Go that is built and not started, since it says nothing about capabilities."""
        return self.module_uri is not None and self.capabilities is None

    @property
    def reference_key(self) -> str | None:
        """The key by which the reference finds duplicates, or None for a package."""
        return None if self.module_uri is None else f"{self.group}:{self.module_uri}:{self.install_path}"


def read_entry(node: Node, *, group: str, index: int) -> tuple[PluginEntry, list[Fault]]:
    """Read one entry.

    Args:
        node: The entry.
        group: The name that it stands under.
        index: Its place in that list.

    Returns:
        The entry, as far as it could be read, and its faults.
    """
    path = f"plugins.{group}[{index}]"
    reader = _EntryReader(node, path)
    entry = PluginEntry(group=group, path=path, origin=node.origin, **reader.fields())
    if isinstance(node, MapNode):
        reader.check(entry)
    return entry, reader.faults


class _EntryReader(Reader):
    """Reads the keys of one entry."""

    def __init__(self, node: Node, path: str) -> None:
        super().__init__()
        self._node = node
        self._path = path
        self._values = self.mapping(node, path, known=ENTRY_KEYS)

    def fields(self) -> dict[str, Any]:
        """Return the values of every key that is there."""
        readers: Mapping[str, tuple[str, Callable[[Node, str], Any]]] = {
            "enabled": ("enabled", self.switch),
            "moduleURI": ("module_uri", self.text),
            "gitRef": ("git_ref", self._any_text),
            "installPath": ("install_path", self.text),
            "libs": ("libs", self.texts),
            "flags": ("flags", self._any_text),
            "envvars": ("envvars", self.texts),
            "id": ("id", self._id),
            "package": ("package", self._package),
            "mode": ("mode", lambda node, path: self.word(node, path, _MODES)),
            "required": ("required", self._required),
            "visibility": ("visibility", self._visibility),
            "grants": ("grants", self._grants),
            "capabilities": ("capabilities", self._capabilities),
            "restart": ("restart", lambda node, path: plain(node) if self.mapping(node, path) else {}),
            "limits": ("limits", self.scalars),
            "env": ("env", self._env),
            "config": ("config", self._config),
        }
        found: dict[str, Any] = {}
        for key, (name, read) in readers.items():
            node = self._values.get(key)
            if node is not None and self._given(key):
                value = read(node, f"{self._path}.{key}")
                if value is not None:
                    found[name] = value
        if "config" in found:
            found["config_node"] = self._values["config"]
        return found

    def check(self, entry: PluginEntry) -> None:
        """Check what must hold among the keys."""
        given = {key for key in self._values if self._given(key)}
        if "package" in given and "moduleURI" in given:
            self._key_fault("moduleURI", "an entry has a package or a moduleURI, not both")
        elif "package" in given:
            for key in _GO_KEYS:
                if key in given:
                    self._key_fault(key, "belongs to moduleURI, not to a package")
            if "capabilities" in given:
                hint = "to tighten what its manifest says, use visibility"
                self._key_fault("capabilities", "belongs to moduleURI: a package has a manifest", hint=hint)
        elif "moduleURI" in given:
            self._check_module(entry, given)
        else:
            self.fault(entry.origin, self._path, "names nothing to load", expected="package or moduleURI")

    def _check_module(self, entry: PluginEntry, given: set[str]) -> None:
        if "installPath" not in given:
            self._key_fault("moduleURI", "needs an installPath beside it")
        if "mode" in given:
            self._key_fault("mode", "has no effect: a module of Go is always a process")
        if entry.capabilities is None:
            for key in _OUR_KEYS:
                if key in given and key not in ("id", "mode"):
                    self._key_fault(key, "has no effect", hint="a module is started only if it has capabilities")
        if entry.enabled:
            self._check_build(entry)
            name = entry.id or entry.group
            if entry.capabilities is not None and (not PROVIDER_ID.fullmatch(name) or name == HOST_ID):
                hint = "give it an id of its own, of lower-case letters, digits and dashes"
                self.fault(entry.origin, self._path, f"{name!r} is no provider's id", hint=hint)

    def _check_build(self, entry: PluginEntry) -> None:
        for key, value in (
            ("moduleURI", entry.module_uri),
            ("gitRef", entry.git_ref),
            ("installPath", entry.install_path),
        ):
            if value and not _URI.fullmatch(value):
                self._key_fault(key, "has characters that do not belong here", expected="letters, digits and _ . / -")
        for index, text in enumerate(entry.envvars):
            if not _VARIABLE.fullmatch(text.partition("=")[0]) or "=" not in text:
                self._key_fault("envvars", f"item {index} is no setting", expected="KEY=VALUE", actual=repr(text))
        try:
            shlex.split(entry.flags)
        except ValueError as error:
            self._key_fault("flags", f"cannot be split into words: {error}")

    def _given(self, key: str) -> bool:
        return key in self._values and not (key in _MAY_BE_EMPTY and is_null(self._values[key]))

    def _key_fault(self, key: str, message: str, **fields: str | None) -> None:
        origin = self._node.keys.get(key, self._node.origin) if isinstance(self._node, MapNode) else self._node.origin
        self.fault(origin, f"{self._path}.{key}", message, **fields)

    def _any_text(self, node: Node, path: str) -> str | None:
        if isinstance(node, ScalarNode):
            return node.text
        self.misfit(node, path, "text")
        return None

    def _required(self, node: Node, path: str) -> bool:
        # What is required cannot be left out; a faulty value must not make it optional.
        value = self.switch(node, path)
        return True if value is None else value

    def _id(self, node: Node, path: str) -> str | None:
        expected = "a lower-case letter, then letters, digits and dashes, at most 64"
        text = self.text(node, path, expected)
        if text is not None and not PROVIDER_ID.fullmatch(text):
            self.misfit(node, path, expected)
            return None
        return text

    def _package(self, node: Node, path: str) -> Package | None:
        text = self.text(node, path, "a requirement, a directory or a wheel")
        if text is None:
            return None
        try:
            return parse_package(text, base=Path(node.origin.file).parent)
        except ValueError as error:
            # A URL may have a password in it.
            actual = "a URL" if "://" in text else repr(text)
            self.fault(node.origin, path, "not what belongs here", expected=str(error), actual=actual)
            return None

    def _visibility(self, node: Node, path: str) -> Mapping[str, Visibility] | None:
        if isinstance(node, ScalarNode):
            word = self.word(node, path, _visibilities())
            return None if word is None else {EVERY: word}
        return self._by_id(node, path)

    def _capabilities(self, node: Node, path: str) -> Mapping[str, Visibility] | None:
        if isinstance(node, ListNode):
            internal = _visibilities()["internal"]
            return dict.fromkeys(self._ids(node, path), internal)
        return self._by_id(node, path)

    def _by_id(self, node: Node, path: str) -> Mapping[str, Visibility]:
        found: dict[str, Visibility] = {}
        for id_, value in self.mapping(node, path).items():
            word = self.word(value, f"{path}.{id_}", _visibilities())
            if not _is_capability(id_):
                origin = node.keys[id_] if isinstance(node, MapNode) else node.origin
                self.fault(origin, path, "not a capability's id", expected="name[:label…]@semver", actual=repr(id_))
            elif word is not None:
                found[id_] = word
        return found

    def _grants(self, node: Node, path: str) -> tuple[str, ...]:
        return self._ids(node, path)

    def _ids(self, node: Node, path: str) -> tuple[str, ...]:
        ids: list[str] = []
        for index, item in enumerate(self.items(node, path, "a list of capabilities' ids")):
            text = self.text(item, f"{path}[{index}]", "a capability's id")
            if text is None:
                continue
            if not _is_capability(text):
                self.misfit(item, f"{path}[{index}]", "a capability's id, name[:label…]@semver")
            elif text in ids:
                self.fault(item.origin, f"{path}[{index}]", f"{text} is given twice")
            else:
                ids.append(text)
        return tuple(ids)

    def _env(self, node: Node, path: str) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for name, value in self.mapping(node, path).items():
            where = f"{path}.{name}"
            if not _VARIABLE.fullmatch(name):
                self.fault(value.origin, where, "not a variable's name", actual=repr(name))
            elif isinstance(value, MapNode):
                self._check_references(value, where, needed=True)
                found[name] = plain(value)
            else:
                text = self._any_text(value, where)
                if text is not None:
                    found[name] = text
        return found

    def _config(self, node: Node, path: str) -> Any:
        if not isinstance(node, MapNode):
            self.misfit(node, path, "a mapping")
            return None
        self._check_references(node, path)
        return plain(node)

    def _check_references(self, node: Node, path: str, *, needed: bool = False) -> None:
        if isinstance(node, MapNode):
            message = reference_fault(node, needed=needed)
            if message is not None:
                self.fault(node.origin, path, message, expected="{$env: NAME} or {$file: PATH}")
                return
            for key, value in node.values.items():
                self._check_references(value, f"{path}.{key}")
        elif isinstance(node, ListNode):
            for index, item in enumerate(node.items):
                self._check_references(item, f"{path}[{index}]")


def _visibilities() -> Mapping[str, Visibility]:
    # The SDK's contracts import protobuf, for which `plugins list` has no use.
    from innkeeper_sdk.capability import Visibility  # noqa: PLC0415 - as above

    return {member.value: member for member in Visibility}


def _is_capability(text: str) -> bool:
    return len(text) <= CAPABILITY_ID_LENGTH and CAPABILITY_ID.fullmatch(text) is not None

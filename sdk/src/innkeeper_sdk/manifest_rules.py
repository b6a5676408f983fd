"""What must hold among the parts of a manifest.

Rules of this module:

1. A rule is a generator over one part of the manifest; all of them run, so that all problems are told together.
2. A pattern is matched whole and in ASCII: what a manifest names ends up in paths, commands and log lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, TypeAlias

from attrs import frozen
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from innkeeper_sdk.documents import near_miss
from innkeeper_sdk.manifest import (
    CAPABILITY_ID,
    CAPABILITY_ID_LENGTH,
    HOST_ID,
    PROVIDER_ID,
    Limit,
    LimitType,
    Manifest,
    Part,
)
from innkeeper_sdk.quantities import parse_duration, parse_size
from innkeeper_sdk.schemas import apply_schema, check_schema

__all__ = ["Problem", "Steps", "problems_of"]

Steps: TypeAlias = tuple[str | int, ...]

_WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
# Errors have the codes that programs already know them by: dashes or underscores.
_CODE: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)
_RUN: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_MESSAGE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_LIMIT: Final = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*", re.ASCII)
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_ENCODINGS: Final = ("none", "base64")


@frozen
class Problem:
    """Something that does not hold.

    Attributes:
        path: The value concerned.
        message: What is wrong.
        expected: What the rule asks for.
        actual: What was found; None for the value at the path.
        hint: What to do about it.
    """

    path: Steps
    message: str
    expected: str | None = None
    actual: str | None = None
    hint: str | None = None


def problems_of(manifest: Manifest) -> Iterator[Problem]:
    """Yield every problem of a manifest that is well-formed."""
    for rule in _RULES:
        yield from rule(manifest)


def _identity(manifest: Manifest) -> Iterator[Problem]:
    if not PROVIDER_ID.fullmatch(manifest.id):
        yield Problem(("id",), "not an id", expected="a lower-case letter, then letters, digits and dashes, at most 64")
    elif manifest.id == HOST_ID:
        yield Problem(("id",), "the id is the host's own", expected="an id of the provider's own")
    if not manifest.title.strip():
        yield Problem(("title",), "the title is empty", expected="what a person calls the provider")
    try:
        SpecifierSet(manifest.sdk)
    except InvalidSpecifier:
        yield Problem(("sdk",), "not a version range", expected="one such as '>=0.1,<0.2'")
    for index, need in enumerate(manifest.needs):
        if need == manifest.id:
            yield Problem(("needs", index), "a provider cannot need itself", actual="itself")
        elif not PROVIDER_ID.fullmatch(need):
            yield Problem(("needs", index), "not an id", expected="a provider's id")
    if manifest.messages is not None and not _FILE.fullmatch(manifest.messages):
        yield Problem(("messages",), "not a file beside the manifest", expected="its name, without a directory")


def _modules(manifest: Manifest) -> Iterator[Problem]:
    names = [module.name for module in manifest.modules]
    yield from _each(_WORD, names, lambda index: ("modules", index, "name"), "a lower-case word")
    yield from _once(names, lambda index: ("modules", index, "name"), "module type")
    yield from _once([kind.name for kind in manifest.kinds], lambda index: ("kinds", index, "name"), "kind")
    suffixes: dict[str, str] = {}
    for index, kind in enumerate(manifest.kinds):
        if kind.module not in names:
            yield _unknown(("kinds", index, "module"), "module type", kind.module, names)
        if not _NAME.fullmatch(kind.name):
            yield Problem(("kinds", index, "name"), "not a name", expected="letters, digits, _ and -")
        for place, suffix in enumerate(kind.suffixes):
            path = ("kinds", index, "suffixes", place)
            if suffix.suffix[:1] != "." or len(suffix.suffix) == 1 or "/" in suffix.suffix:
                yield Problem((*path, "suffix"), "not a file name's ending", expected="one with a leading dot")
            if suffix.encoding not in _ENCODINGS:
                yield Problem((*path, "encoding"), "unknown encoding", expected=" or ".join(_ENCODINGS))
            if suffix.suffix in suffixes:
                yield Problem((*path, "suffix"), f"the suffix belongs to {suffixes[suffix.suffix]} already")
            suffixes[suffix.suffix] = kind.name
        for place, magic in enumerate(kind.magic):
            if not _is_hex(magic):
                yield Problem(
                    ("kinds", index, "magic", place), "not hexadecimal", expected="first bytes in hexadecimal"
                )


def _capabilities(manifest: Manifest) -> Iterator[Problem]:
    for index, capability in enumerate(manifest.capabilities):
        path = ("capabilities", index)
        if len(capability.id) > CAPABILITY_ID_LENGTH or not CAPABILITY_ID.fullmatch(capability.id):
            expected = f"name[:label…]@semver of at most {CAPABILITY_ID_LENGTH} characters"
            yield Problem((*path, "id"), "not a capability's id", expected=expected)
        if not capability.where or len(set(capability.where)) != len(capability.where):
            yield Problem((*path, "where"), "says where it can run", expected="host, loop or both, each once")
        for name, method in capability.methods.items():
            for key, message in (("input", method.input), ("output", method.output)):
                if message is not None and not _MESSAGE.fullmatch(message):
                    yield Problem((*path, "methods", name, key), "not a message", expected="its full name")
            counted = None if method.calls is None else manifest.limits.get(method.calls)
            if method.calls is not None and (counted is None or counted.type is not LimitType.INTEGER):
                yield Problem(
                    (*path, "methods", name, "calls"), "not a limit of this manifest", expected="one of type integer"
                )
    yield from _once([c.id for c in manifest.capabilities], lambda index: ("capabilities", index, "id"), "capability")


def _processes(manifest: Manifest) -> Iterator[Problem]:
    for name, process in manifest.processes.items():
        path = ("processes", name)
        if not _WORD.fullmatch(name) or name == Part.HOST.value:
            expected = "a lower-case word that is not host"
            yield Problem(path, "not a process's name", expected=expected, actual=repr(name))
        if not _FILE.fullmatch(process.executable):
            yield Problem((*path, "executable"), "not a command", expected="a name, without a directory")
        for index, need in enumerate(process.needs):
            if need not in manifest.processes:
                yield _unknown((*path, "needs", index), "process", need, manifest.processes)
        if process.helper and process.capabilities:
            yield Problem((*path, "capabilities"), "a helper speaks no LOOP wire and has no capabilities")
        if process.helper and process.needs:
            yield Problem((*path, "needs"), "a helper is started before what needs it, and needs nothing itself")
    try:
        TopologicalSorter({name: process.needs for name, process in manifest.processes.items()}).prepare()
    except CycleError as error:
        circle = error.args[1]
        yield Problem(("processes", circle[0]), f"processes need each other: {', '.join(circle)}", actual="a circle")


def _served(manifest: Manifest) -> Iterator[Problem]:
    loops = {capability.id for capability in manifest.capabilities if Part.LOOP in capability.where}
    served: dict[str, str] = {}
    for name, process in manifest.processes.items():
        if not process.capabilities and not process.helper:
            yield Problem(("processes", name, "capabilities"), "a process that is no helper serves something")
        for index, id_ in enumerate(process.capabilities):
            path = ("processes", name, "capabilities", index)
            if id_ not in loops:
                yield Problem(path, "not a capability of this manifest that can run as a process")
            elif id_ in served:
                yield Problem(path, f"the capability is served by {served[id_]} already")
            else:
                served[id_] = name
    for index, capability in enumerate(manifest.capabilities):
        if capability.id in loops and capability.id not in served:
            expected = "a process that lists it"
            yield Problem(("capabilities", index, "where"), "no process serves it", expected=expected, actual="none")


def _commands(manifest: Manifest) -> Iterator[Problem]:
    for index, command in enumerate(manifest.commands):
        path = ("commands", index)
        for key, word in (("noun", command.noun), ("verb", command.verb)):
            if word is not None and not _WORD.fullmatch(word):
                yield Problem((*path, key), "not a word", expected="a lower-case word")
        if not _RUN.fullmatch(command.run):
            yield Problem((*path, "run"), "not a function", expected="package.module:function")
    words = [" ".join(filter(None, (command.noun, command.verb))) for command in manifest.commands]
    yield from _once(words, lambda index: ("commands", index), "command")
    for index, check in enumerate(manifest.checks):
        if not _RUN.fullmatch(check.run):
            yield Problem(("checks", index, "run"), "not a function", expected="package.module:function")
    ids = [check.id for check in manifest.checks]
    yield from _each(_WORD, ids, lambda index: ("checks", index, "id"), "a lower-case word")
    yield from _once(ids, lambda index: ("checks", index, "id"), "check")
    for code in manifest.errors:
        if not _CODE.fullmatch(code):
            expected = "lower-case letters, digits, _ and -, a letter first, at most 64"
            yield Problem(("errors", code), "not an error's code", expected=expected, actual=repr(code))


def _attributes(manifest: Manifest) -> Iterator[Problem]:
    names = [module.name for module in manifest.modules]
    for key, attribute in manifest.attributes.items():
        path = ("attributes", key)
        if not _NAME.fullmatch(key):
            yield Problem(path, "not an attribute's key", expected="letters, digits, _ and -", actual=repr(key))
        if attribute.module is not None and attribute.module not in names:
            yield _unknown((*path, "module"), "module type", attribute.module, names)
        problems = list(_schema((*path, "schema"), attribute.schema))
        yield from problems
        if attribute.default is not None and not problems:
            for fault in apply_schema(attribute.schema, attribute.default):
                yield Problem((*path, "default", *fault.path), f"does not fit its schema: {fault.message}")


def _limits(manifest: Manifest) -> Iterator[Problem]:
    for name, limit in manifest.limits.items():
        if not _LIMIT.fullmatch(name):
            yield Problem(("limits", name), "not a limit's name", expected="words with dots between", actual=repr(name))
        expected = _wanted(limit)
        if expected is not None:
            yield Problem(("limits", name, "default"), f"no {limit.type.value}", expected=expected)
        other = manifest.limits.get(limit.at_most) if limit.at_most else None
        if other is not None and other.type is not limit.type:
            yield Problem(("limits", name, "at_most"), f"{limit.at_most} is a {other.type.value}")


def _config(manifest: Manifest) -> Iterator[Problem]:
    if manifest.config is not None:
        yield from _schema(("config",), manifest.config)


_RULES: Final[Sequence[Callable[[Manifest], Iterator[Problem]]]] = (
    _identity,
    _modules,
    _capabilities,
    _processes,
    _served,
    _commands,
    _attributes,
    _limits,
    _config,
)


def _wanted(limit: Limit) -> str | None:
    """Return what a limit's default should have been, or None if it is one."""
    value = limit.default
    if limit.type is LimitType.BOOLEAN:
        return None if isinstance(value, bool) else "true or false"
    if limit.type is LimitType.INTEGER:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if whole else "a whole number, at least 0"
    try:
        (parse_size if limit.type is LimitType.SIZE else parse_duration)(value)
    except ValueError:
        return "one such as 100kb" if limit.type is LimitType.SIZE else "one such as 30s or 1m30s"
    return None


def _schema(path: Steps, schema: Mapping[str, Any]) -> Iterator[Problem]:
    for fault in check_schema(schema):
        yield Problem((*path, *fault.path), fault.message, actual="a schema that is none")


def _each(
    pattern: re.Pattern[str], words: Iterable[str], path: Callable[[int], Steps], expected: str
) -> Iterator[Problem]:
    for index, word in enumerate(words):
        if not pattern.fullmatch(word):
            yield Problem(path(index), "not a name", expected=expected)


def _once(words: Sequence[str], path: Callable[[int], Steps], what: str) -> Iterator[Problem]:
    twice = {word for word, count in Counter(words).items() if count > 1}
    seen: set[str] = set()
    for index, word in enumerate(words):
        if word in twice and word in seen:
            yield Problem(path(index), f"the {what} {word!r} is declared twice", actual=repr(word))
        seen.add(word)


def _unknown(path: Steps, what: str, word: str, known: Iterable[str]) -> Problem:
    close = near_miss(word, known)
    return Problem(
        path,
        f"the {what} is not declared",
        actual=repr(word),
        hint=f"did you mean {close}?" if close else None,
    )


def _is_hex(text: str) -> bool:
    try:
        return bytes.fromhex(text) != b"" and " " not in text
    except ValueError:
        return False

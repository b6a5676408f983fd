"""What plugins print on stderr, as records of the host's log.

Rules of this module:

1. Whatever comes, a record or nothing comes of it, never an exception: lines of any length, bytes of any kind.
2. hclog's JSON lines keep their level, text and values; other lines are told by their prefix, and what follows a panic
   is an error, as is a Python traceback.
3. Nothing that a plugin prints may look like a line of the host's own, or move a terminal's cursor.
4. The last lines are kept, cut: they are a process's own words when it has failed.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import field, frozen

__all__ = ["Entry", "Lines", "PluginLog"]

# go-plugin's PluginLogBufferSize: a longer line is told in pieces.
_LINE_BYTES: Final = 64 << 10

_KEPT_LINES: Final = 20
_KEPT_CHARACTERS: Final = 500

# What is told of one line: its text, and so many values of so many characters.
_TEXT_CHARACTERS: Final = 8 << 10
_VALUES: Final = 32
_VALUE_CHARACTERS: Final = 1 << 10

# hclog's and zap's names; trace is below what the standard library has.
_LEVELS: Final[Mapping[str, int]] = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_PREFIX: Final = re.compile(r"\[(TRACE|DEBUG|INFO|WARN|ERROR)\]\s*")
_PANICS: Final = ("panic: ", "fatal error: ")
_TRACEBACK: Final = "Traceback (most recent call last):"


@frozen
class Entry:
    """One record.

    Attributes:
        level: Of the standard library.
        text: What it says.
        values: What else it says, by name.
    """

    level: int
    text: str
    values: Mapping[str, object] = field(factory=dict)


class Lines:
    """Bytes in, lines out; a line without an end comes in pieces of 64 KiB.

    Args:
        take: Called with each line, without its end.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._rest += line
            self._emit(everything=True)
        self._rest += rest
        self._emit(everything=False)

    def end(self) -> None:
        """Take note that no more will come."""
        if self._rest:
            self._emit(everything=True)

    def _emit(self, *, everything: bool) -> None:
        while len(self._rest) > _LINE_BYTES:
            self._take(bytes(self._rest[:_LINE_BYTES]))
            del self._rest[:_LINE_BYTES]
        if everything:
            self._take(bytes(self._rest).rstrip(b"\r"))
            self._rest.clear()


class PluginLog:
    """The log of one process.

    Args:
        logger: Where the records go.
        extra: What the host says with each: provider, part, generation.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, object]) -> None:
        self._logger = logger
        self._extra = dict(extra)
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)
        self._panicking = False
        self._in_traceback = False

    @property
    def last(self) -> list[str]:
        """Return the last lines, oldest first, each of at most 500 characters."""
        return list(self._last)

    def take(self, line: bytes) -> None:
        """Take one line, without its end."""
        text = line.decode("utf-8", "backslashreplace")
        if not text.strip():
            return
        entry = _structured(text) or self._plain(text)
        self._last.append(entry.text[:_KEPT_CHARACTERS])
        if self._logger.isEnabledFor(entry.level):
            # The values stand under one key: a plugin's names must not hide what the host says.
            values = {"values": entry.values} if entry.values else {}
            self._logger.log(entry.level, "%s", entry.text, extra={**self._extra, **values})

    def _plain(self, text: str) -> Entry:
        shown = _shown(text, _TEXT_CHARACTERS)
        if text.startswith(_PANICS):
            self._panicking = True
        if self._panicking:
            return Entry(logging.ERROR, shown)
        if text.startswith(_TRACEBACK):
            self._in_traceback = True
            return Entry(logging.ERROR, shown)
        if self._in_traceback:
            # Its last line, the exception, is the first that is not indented.
            self._in_traceback = text.startswith((" ", "\t"))
            return Entry(logging.ERROR, shown)
        if prefix := _PREFIX.match(text):
            return Entry(_LEVELS[prefix[1].lower()], _shown(text[prefix.end() :], _TEXT_CHARACTERS))
        return Entry(logging.DEBUG, shown)


def _structured(line: str) -> Entry | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    text, name = fields.pop("@message", None), fields.pop("@level", None)
    level = _LEVELS.get(name) if isinstance(name, str) else None
    if level is None or not isinstance(text, str) or not _is_time(fields.pop("@timestamp", "")):
        return None
    if name == "fatal":
        text = f"[FATAL] {text}"
    elif text.startswith("panic:"):
        level, text = logging.CRITICAL, f"[PANIC] {text}"
    return Entry(level, _shown(text, _TEXT_CHARACTERS), _values(fields))


def _is_time(text: object) -> bool:
    if text == "":
        return True
    try:
        datetime.fromisoformat(text)  # type: ignore[arg-type]  # another type is a TypeError, which is caught
    except (TypeError, ValueError):
        return False
    return True


def _values(fields: Mapping[str, Any]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in list(fields.items())[:_VALUES]:
        plain = isinstance(value, bool | int | float) or value is None
        text = value if isinstance(value, str) else json.dumps(value)
        values[_shown(name, 64)] = value if plain else _shown(text, _VALUE_CHARACTERS)
    return values


def _shown(text: str, most: int) -> str:
    cut = text[:most] + "…" if len(text) > most else text
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in cut)

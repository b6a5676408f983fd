"""Log lines that a LOOP host understands: one JSON object per line on standard error.

Rules of this module:

1. ``@message``, ``@level`` and ``@timestamp`` are always texts: a Go host ends on anything else.
2. A line is shorter than 64 KiB, newline included: a longer one is not read as one line. What does not fit is cut,
   and the line says so.
3. Nobody reading is no fault of the plugin: a broken pipe is borne.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Final

__all__ = ["HclogHandler", "install"]

_STDERR: Final = 2
# go-plugin reads with a buffer of 64 KiB; the rest is for what stands beside the message.
_LINE_BYTES: Final = 63 * 1024
_CUT: Final = " [cut]"

# Of chainlink-common's adapter; critical is its name for what ends a process.
_LEVELS: Final = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warn"),
    (logging.INFO, "info"),
)

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class HclogHandler(logging.Handler):
    """Write records as JSON lines to a file descriptor.

    Args:
        fd: Where to; standard error by default. It stays open.
    """

    def __init__(self, fd: int = _STDERR) -> None:
        super().__init__()
        self._fd = fd
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = self.format(record).encode("ascii") + b"\n"
        except Exception:  # noqa: BLE001 - arguments that do not fit their text must not end who logs
            self.handleError(record)
            return
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except BrokenPipeError:
            # The host is gone, and its plugins end by themselves.
            return
        except OSError:
            self.handleError(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line, without its newline."""
        message = record.getMessage()
        fields: dict[str, object] = {
            "@level": _level(record.levelno),
            "@message": message,
            "@timestamp": _timestamp(record.created),
            "logger": record.name,
            "caller": f"{record.filename}:{record.lineno}",
        }
        extras: dict[str, object] = {
            key: value for key, value in vars(record).items() if key not in _STANDARD and key not in fields
        }
        if record.exc_info:
            extras["stacktrace"] = self._formatter.formatException(record.exc_info)
        line = _dump(fields | extras)
        if len(line) <= _LINE_BYTES:
            return line
        trace = str(extras.get("stacktrace", ""))
        return _shortened(fields, message, trace)


def install(level: int = logging.INFO) -> None:
    """Make JSON lines on standard error the way of this whole process to log, from this level on."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(HclogHandler())
    root.setLevel(level)


def _level(number: int) -> str:
    for least, name in _LEVELS:
        if number >= least:
            return name
    return "debug"


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _dump(fields: dict[str, object]) -> str:
    return json.dumps(fields, default=lambda value: type(value).__name__, skipkeys=True)


def _shortened(fields: dict[str, object], message: str, trace: str) -> str:
    # Most of a trace's worth is at its end, of a message's at its beginning.
    keep = _LINE_BYTES // 2
    while True:
        cut = {**fields, "@message": _head(message, keep)}
        if trace:
            cut["stacktrace"] = trace[-keep:]
        line = _dump(cut)
        if len(line) <= _LINE_BYTES:
            return line
        keep //= 2


def _head(text: str, size: int) -> str:
    return text if len(text) <= size else text[:size] + _CUT

"""The handshake: the one line by which a plugin says where it serves, and what it means when none comes.

Rules of this module:

1. Pure functions of bytes: what was printed goes in, an address or an error comes out.
2. A plugin is given a private directory and must serve there: the host dials no other socket because a plugin says so.
3. An error says what was printed, cut, how the process ended, and the likely cause.

The line is ``core|app|network|address|protocol|certificate|multiplex``, of which the last one, two or three may be
absent; a Go plugin prints an empty certificate.
"""

from __future__ import annotations

import os
import re
import signal
from enum import Enum
from pathlib import Path
from typing import Final

from innkeeper_sdk.control_socket import SOCKET_PATH_LIMIT
from innkeeper_sdk.loop.broker_sockets import is_inside
from innkeeper_sdk.loop.handshake import APP_VERSION, CORE_VERSION

__all__ = ["LINE_BYTES", "Cause", "HandshakeError", "cause_of", "exit_text", "parse", "quoted"]

# A line longer than this is none: the reference's scanner stops there.
LINE_BYTES: Final = 64 << 10

_FIELDS: Final = range(4, 8)

# A plugin that wants TLS prints its certificate; the reference ignores anything shorter than this.
_CERTIFICATE_CHARACTERS: Final = 50

# What a plugin says that misses its cookie, be it started by hand or by a host of another kind: go-plugin's server.go,
# and our SDK.
_COOKIE_WORDS: Final = ("not meant to be executed directly", "it does nothing by itself")

_SHOWN: Final = 300


class Cause(Enum):
    """Why no connection came about; the values are the likely causes, as the operator reads them."""

    NOT_A_PLUGIN = "it prints something else on stdout before its handshake, or is no LOOP plugin"
    OTHER_PROTOCOL = "it was built for another kind of plugin host"
    COOKIE = "it refuses the cookie of standard capabilities: it is a plugin of another kind"
    ENDED = "it failed while it started"
    KILLED = "it was killed while it started, perhaps for lack of memory"
    SILENT = "it is slow, or waits for something, before it serves"

    @property
    def hopeless(self) -> bool:
        """Whether the next try would end the same way, whatever happens meanwhile."""
        return self in (Cause.COOKIE, Cause.OTHER_PROTOCOL)


class HandshakeError(Exception):
    """Raised when a line is no handshake that this host can follow.

    Args:
        text: What is wrong with it.
        cause: The likely cause.
    """

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause


def parse(line: bytes, *, directory: Path) -> Path:
    """Return the socket that a handshake line names.

    Args:
        line: The first line that the plugin printed, with or without its end.
        directory: The private directory that it was given.

    Raises:
        HandshakeError: It is not a handshake, or one that this host cannot follow.
    """
    fields = [field.strip() for field in line.strip(b"\r\n\t ").split(b"|")]
    if len(line) > LINE_BYTES or len(fields) not in _FIELDS:
        raise HandshakeError("its first line is no handshake", Cause.NOT_A_PLUGIN)
    fields += [b""] * (_FIELDS[-1] - len(fields))
    core, app, network, address, protocol, certificate, multiplex = fields
    if not re.fullmatch(rb"[0-9]{1,9}", core) or not re.fullmatch(rb"[0-9]{1,9}", app):
        raise HandshakeError("its first line is no handshake", Cause.NOT_A_PLUGIN)
    _expect("core protocol", str(CORE_VERSION), core.decode())
    _expect("protocol version", str(APP_VERSION), app.decode())
    _expect("network", "unix", quoted(network))
    _expect("protocol", "grpc", quoted(protocol or b"netrpc"))
    if len(certificate) > _CERTIFICATE_CHARACTERS:
        raise HandshakeError("it wants TLS, which LOOP does not use", Cause.OTHER_PROTOCOL)
    if multiplex == b"true":
        raise HandshakeError("it multiplexes its connections, which it was not asked to", Cause.OTHER_PROTOCOL)
    return _address(address, directory)


def cause_of(printed: bytes, errors: str, status: int | None) -> Cause:
    """Return why a process that printed no handshake printed none.

    Args:
        printed: What it printed on stdout.
        errors: The last of what it printed on stderr.
        status: Its exit status, negative for a signal; None if it runs.
    """
    if status is None:
        return Cause.NOT_A_PLUGIN if printed else Cause.SILENT
    if status < 0:
        return Cause.KILLED
    if status == 1 and not printed and any(words in errors for words in _COOKIE_WORDS):
        return Cause.COOKIE
    return Cause.ENDED


def exit_text(status: int | None) -> str:
    """Return how a process ended, to stand behind its name: ``exited with status 1``."""
    if status is None:
        return "ended, nobody knows how"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    return f"was ended by {name}"


def quoted(text: bytes) -> str:
    """Return bytes as they can stand in a sentence: cut, and with nothing that a terminal would obey."""
    shown = text[:_SHOWN].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return f"{shown}…" if len(text) > _SHOWN else shown


def _expect(what: str, expected: str, actual: str) -> None:
    if actual != expected:
        raise HandshakeError(f"its {what} is {actual!r}, expected {expected!r}", Cause.OTHER_PROTOCOL)


def _address(address: bytes, directory: Path) -> Path:
    path = Path(os.fsdecode(address))
    if len(address) > SOCKET_PATH_LIMIT or b"\0" in address:
        raise HandshakeError(f"its address is none: {quoted(address)!r}", Cause.NOT_A_PLUGIN)
    if not is_inside(path, directory):
        raise HandshakeError(
            f"it serves at {quoted(address)!r}, not in the directory of PLUGIN_UNIX_SOCKET_DIR", Cause.OTHER_PROTOCOL
        )
    return path

"""go-plugin's handshake, as the plugin has it: what the host says in the environment, and the one line that answers.

Rules of this module:

1. No input and no output: an environment comes in; a line, or the refusal, goes out.
2. Whoever starts the program without the cookie is a person, and is told what it is.
3. What this side cannot do is refused before the line, so that the host learns it at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from innkeeper_sdk.control_socket import SOCKET_PATH_LIMIT
from innkeeper_sdk.errors import ProviderError

__all__ = [
    "APP_VERSION",
    "COOKIE_NAME",
    "COOKIE_VALUE",
    "CORE_VERSION",
    "Handshake",
    "HandshakeError",
    "negotiate",
    "read",
]

# chainlink-common's loop/standard_capabilities.go, and go-plugin's server.go.
COOKIE_NAME: Final = "CL_PLUGIN_STANDARD_CAPABILITIES_MAGIC_COOKIE"
COOKIE_VALUE: Final = "f4df86d3-3552-4231-8206-be0d245b6c67"
CORE_VERSION: Final = 1
# LOOP plugins set no version.
APP_VERSION: Final = 0

# Versions are Go's int.
_DIGITS: Final = 19

_VERSIONS: Final = "PLUGIN_PROTOCOL_VERSIONS"
_MULTIPLEX: Final = "PLUGIN_MULTIPLEX_GRPC"
_CERTIFICATE: Final = "PLUGIN_CLIENT_CERT"
_GROUP: Final = "PLUGIN_UNIX_SOCKET_GROUP"
_DIRECTORIES: Final = ("PLUGIN_UNIX_SOCKET_DIR", "TMPDIR")


class HandshakeError(ProviderError):
    """Raised when a plugin cannot serve whoever started it."""


@frozen
class Handshake:
    """What the host asked for.

    Attributes:
        directory: Where it wants sockets to be made.
        version: The application's version, which both sides speak, or else this side's only one.
        multiplex: Whether it asked if connections can be multiplexed.
        ignored: What of its versions is no number.
    """

    directory: Path
    version: int
    multiplex: bool
    ignored: tuple[str, ...] = ()

    def line(self, socket: Path) -> str:
        """Return the line that tells the host where this side listens.

        Args:
            socket: An absolute path of at most 107 bytes.

        Raises:
            HandshakeError: The path cannot stand in the line.
        """
        address = os.fspath(socket)
        if any(mark in address for mark in "|\r\n") or len(os.fsencode(socket)) > SOCKET_PATH_LIMIT:
            raise HandshakeError(
                "the path of the plugin's socket cannot be told to its host",
                path=repr(address),
                expected=f"at most {SOCKET_PATH_LIMIT} bytes, without | and line breaks",
                hint="set PLUGIN_UNIX_SOCKET_DIR or TMPDIR to another directory",
            )
        # The sixth field is a certificate, and stays empty.
        fields = [str(CORE_VERSION), str(self.version), "unix", address, "grpc", ""]
        if self.multiplex:
            # Older hosts know six fields only, so the seventh answers a question.
            fields.append("false")
        return "|".join(fields) + "\n"


def read(environ: Mapping[str, str]) -> Handshake:
    """Read what the host said.

    Args:
        environ: The process's environment.

    Raises:
        HandshakeError: The cookie is missing or another, or the host wants what this side cannot do.
    """
    if environ.get(COOKIE_NAME) != COOKIE_VALUE:
        raise HandshakeError(
            "this program is a plugin of an Innkeeper or Chainlink host, which starts it; it does nothing by itself",
            hint="name its provider in plugins.yaml and start the host with `innkeeper run`",
        )
    if environ.get(_CERTIFICATE):
        raise HandshakeError(
            f"the host asks for TLS between it and this plugin ({_CERTIFICATE} is set), which LOOP plugins do not "
            "speak: their sockets are private",
            hint="turn AutoMTLS off in the host",
        )
    if environ.get(_GROUP):
        raise HandshakeError(
            f"the host asks for sockets that a group may use ({_GROUP} is set); this plugin makes private ones only"
        )
    version, ignored = negotiate(environ.get(_VERSIONS, ""), (APP_VERSION,))
    directory = next((value for name in _DIRECTORIES if (value := environ.get(name))), "/tmp")  # noqa: S108 - go-plugin's default; a private directory is made in it
    return Handshake(
        directory=Path(directory).absolute(),
        version=version,
        multiplex=bool(environ.get(_MULTIPLEX)),
        ignored=ignored,
    )


def negotiate(offered: str, supported: Sequence[int]) -> tuple[int, tuple[str, ...]]:
    """Choose the version to speak.

    Args:
        offered: The host's versions, separated by commas, in any order.
        supported: This side's; at least one.

    Returns:
        The newest that both have, else this side's lowest, which the host then refuses; and what of the offer is no
        version.
    """
    entries = tuple(entry.strip() for entry in offered.split(",")) if offered.strip() else ()
    numbers = {int(entry) for entry in entries if _is_number(entry)}
    common = numbers.intersection(supported)
    return max(common) if common else min(supported), tuple(entry for entry in entries if not _is_number(entry))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS

"""The texts of failures, as they cross the wire.

Rules of this module:

1. An error is a text in a response. It always leaves here in four parts; what arrives is read as
   :meth:`~innkeeper_sdk.capability.CapabilityError.parse` says, which splits no text that it does not know.
2. Where a call has no field for an error, the text is the status's: gRPC sends that as a header, and a peer that gets
   more header than it wants sees no text at all.
3. What leaves is Unicode, and both ways a text is bounded: it ends in logs, in rows and in a guest's memory.
"""

from __future__ import annotations

from typing import Final

from innkeeper_sdk.capability import CapabilityError

__all__ = ["error_from_text", "error_to_text", "status_text"]

_ERROR_CHARACTERS: Final = 64 << 10
# One character is up to twelve bytes of a header, and innkeeper_sdk.loop.channels takes 256 KiB of it; Go peers take
# more.
_STATUS_CHARACTERS: Final = 8 << 10
_CUT: Final = " [cut]"


def error_to_text(error: CapabilityError) -> str:
    """Return an error as the wire has it, in four parts."""
    return _bounded(error.serialize(), _ERROR_CHARACTERS)


def error_from_text(text: str) -> CapabilityError:
    """Return the error that a text of the wire stands for; see :meth:`CapabilityError.parse`."""
    return CapabilityError.parse(_bounded(text, _ERROR_CHARACTERS))


def status_text(text: str) -> str:
    """Return a text that can be the details of a status."""
    return _bounded(text, _STATUS_CHARACTERS)


def _bounded(text: str, most: int) -> str:
    shown = text if len(text) <= most else text[: most - len(_CUT)] + _CUT
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")

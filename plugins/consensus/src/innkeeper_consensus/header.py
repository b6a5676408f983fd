"""The first 109 bytes of a report, and the 96 bytes that are signed with it.

Rules of this module:

1. Fields are big-endian, at fixed places, as the reference writes and the official SDKs read them.
2. What does not fit is refused, naming the field; a leading ``0x`` is fine, and a short workflow name is filled up
   with ``0``.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from innkeeper_consensus.faults import internal
from innkeeper_sdk.capability import RequestMetadata

__all__ = ["DIGEST_LENGTH", "HEADER_LENGTH", "report_context", "report_header", "report_id"]

HEADER_LENGTH: Final = 109
DIGEST_LENGTH: Final = 32

_VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">B32sIII32s10s20s2s")
_UINT32: Final = 2**32 - 1
_LAST_ID: Final = 0xFFFF
_SHOWN: Final = 80  # characters of a faulty field that its error repeats
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_DECIMAL: Final = re.compile(r"[0-9]{1,20}")


def report_id(reference: str) -> bytes:
    """Return the two bytes of a report's id.

    Args:
        reference: The decimal callback id, at most 65535.

    Raises:
        CapabilityError: It is none.
    """
    if not _DECIMAL.fullmatch(reference) or int(reference) > _LAST_ID:
        raise internal(f"report id: expected a decimal callback id of at most {_LAST_ID}, found {reference[:_SHOWN]!r}")
    return int(reference).to_bytes(2, "big")


def report_header(metadata: RequestMetadata, timestamp: int) -> bytes:
    """Return the header of a report.

    Args:
        metadata: Whose report it is.
        timestamp: When it was asked for, in Unix seconds.

    Raises:
        CapabilityError: A field does not fit.
    """
    return _LAYOUT.pack(
        _VERSION,
        _bytes("ExecutionID", metadata.workflow_execution_id, 32),
        _number("Timestamp", timestamp),
        _number("DONID", metadata.workflow_don_id),
        _number("DONConfigVersion", metadata.workflow_don_config_version),
        _bytes("WorkflowID", metadata.workflow_id, 32),
        _bytes("WorkflowName", metadata.workflow_name.removeprefix("0x").ljust(20, "0"), 10),
        _bytes("WorkflowOwner", metadata.workflow_owner, 20),
        report_id(metadata.reference_id),
    )


def report_context(config_digest: bytes, sequence: int) -> bytes:
    """Return what is signed with a report: digest, round and 32 zero bytes.

    Args:
        config_digest: 32 bytes.
        sequence: The round, 32 bits.

    Raises:
        CapabilityError: The rounds are used up.
    """
    if len(config_digest) != DIGEST_LENGTH:
        raise ValueError(f"a config digest has {DIGEST_LENGTH} bytes, found {len(config_digest)}")
    return config_digest + bytes(27) + _number("SeqNr", sequence).to_bytes(4, "big") + bytes(33)


def _bytes(name: str, text: str, length: int) -> bytes:
    digits = text.removeprefix("0x")
    if not _HEX.fullmatch(digits):
        raise internal(f"{name}: invalid hex in field: {text[:_SHOWN]!r}")
    raw = bytes.fromhex(digits)
    if len(raw) != length:
        raise internal(f"{name}: wrong length: expected {length} bytes, got {len(raw)}")
    return raw


def _number(name: str, number: int) -> int:
    if not 0 <= number <= _UINT32:
        raise internal(f"{name}: expected a number of 32 bits, found {number}")
    return number

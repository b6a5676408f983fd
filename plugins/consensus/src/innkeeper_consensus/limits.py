"""The limit of consensus calls that this provider applies itself, and the reference's words for passing it.

Rules of this module:

1. Sizes are decimal, 1kb being 1000 bytes, and limits are inclusive.
2. How often an execution calls is the host's to count: the manifest names the limit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

__all__ = ["OBSERVATION_SIZE_LIMIT", "bound_text", "format_size"]

OBSERVATION_SIZE_LIMIT: Final = "PerWorkflow.Consensus.ObservationSizeLimit"

_UNITS: Final = ((10**12, "tb"), (10**9, "gb"), (10**6, "mb"), (10**3, "kb"))


def format_size(size: int) -> str:
    """Return a size as the reference prints it: ``999b``, ``9.5kb``, ``1.1mb``.

    Args:
        size: Bytes.
    """
    for unit, suffix in _UNITS:
        if size >= unit:
            return f"{_plain(Decimal(size) / unit)}{suffix}"
    return f"{size}b"


def bound_text(key: str, workflow_id: str, amount: str, limit: str) -> str:
    """Return the reference's sentence for a limit of a workflow that is passed."""
    return f"{key} limited for workflow[{workflow_id}]: cannot use {amount}, limit is {limit}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

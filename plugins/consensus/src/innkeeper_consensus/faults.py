"""How a consensus call fails.

Rules of this module:

1. A rule that cannot decide raises :class:`RuleError`; it knows nothing of requests.
2. What the caller is told is one sentence and the errors that the nodes observed; the rest of what the reference puts
   into that text (metadata, descriptor) is in the fields of :class:`ConsensusError`. Observed values are in neither.
3. Texts above 10,000 bytes are cut, as in the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin

__all__ = ["ConsensusError", "RuleError", "cut", "internal", "invalid"]

_LONGEST: Final = 10_000  # bytes
_CUT: Final = ":TRUNCATED"


class RuleError(Exception):
    """Raised when a rule cannot decide.

    Args:
        message: The reference's text.
        disagreement: Whether the nodes' observations differ where they must not, which is the workflow author's fault;
            else the rule cannot be applied to them at all.
    """

    def __init__(self, message: str, *, disagreement: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.disagreement = disagreement


class ConsensusError(CapabilityError):
    """Raised when there is no consensus and no default.

    Args:
        message: The sentence and the errors.
        origin: Whose fault it is.
        error_code: Its class.
        details: What else there is to know, as text by name.
    """

    def __init__(
        self,
        message: str,
        *,
        origin: Origin,
        error_code: ErrorCode = ErrorCode.ConsensusFailed,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(cut(message), error_code=error_code, origin=origin)
        self.details: Mapping[str, str] = MappingProxyType(dict(details or {}))

    def to_dict(self) -> dict[str, str]:
        """Return code, message and fields, with the details."""
        return {**self.details, **super().to_dict()}


def invalid(text: str) -> CapabilityError:
    """Return the error for a request that its author got wrong."""
    return CapabilityError(cut(text), error_code=ErrorCode.InvalidArgument, origin=Origin.USER)


def internal(text: str) -> CapabilityError:
    """Return the error for a fault of ours."""
    return CapabilityError(cut(text), error_code=ErrorCode.Internal)


def cut(text: str) -> str:
    """Return a text of at most 10,000 bytes, with a mark where it was cut."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= _LONGEST else raw[:_LONGEST].decode("utf-8", "ignore") + _CUT

"""Refusals of the protocol: the verifier's error and codes, and no second vocabulary."""

from __future__ import annotations

from typing import Final

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code

__all__ = ["malformed", "refusal", "too_large"]

_PARSE: Final = "parse"


def refusal(code: Code, message: str, *, step: str) -> AttestationError:
    """Return a refusal.

    Args:
        code: Which rule refused.
        message: One sentence; it quotes nothing that was received.
        step: The part of the protocol that refused.
    """
    return AttestationError(code, message, step)


def malformed(message: str) -> AttestationError:
    """Return the refusal of what is not in the protocol's form."""
    return refusal(Code.MALFORMED, message, step=_PARSE)


def too_large(message: str) -> AttestationError:
    """Return the refusal of what has more bytes or items than it may."""
    return refusal(Code.TOO_LARGE, message, step=_PARSE)

"""Why a document is refused.

Rules of this module:

1. There is one error, with one code out of a fixed list: callers decide by the code, never by the text.
2. No text here holds more of a document than sizes, names of fields and types: it may be logged and shown.
3. Standard library only: what verifies runs in the enclave, the vault and the host alike.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AttestationError", "Code"]


class Code(StrEnum):
    """The codes of a refusal; those that no check of a document gives are for what is decided with its help."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    BAD_SIGNATURE = "bad_signature"
    UNTRUSTED_CHAIN = "untrusted_chain"
    EXPIRED_CHAIN = "expired_chain"
    STALE = "stale"
    REPLAYED = "replayed"
    NONCE_MISMATCH = "nonce_mismatch"
    USER_DATA_MISMATCH = "user_data_mismatch"
    DEBUG_ENCLAVE = "debug_enclave"
    MEASUREMENT_UNKNOWN = "measurement_unknown"
    MEASUREMENT_REVOKED = "measurement_revoked"
    SVN_TOO_LOW = "svn_too_low"
    CONFIG_MISMATCH = "config_mismatch"
    INSECURE_BACKEND = "insecure_backend"
    NOT_AUTHORIZED = "not_authorized"
    POLICY_DENIED = "policy_denied"
    LABEL_MISMATCH = "label_mismatch"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"


class AttestationError(Exception):
    """Raised when a document, or what depends on it, is refused.

    Args:
        code: Which rule refused it.
        message: One sentence for a person, without a byte of any secret.
        step: The name of the check that refused it; empty where no list of checks was run.
    """

    def __init__(self, code: Code, message: str, step: str = "") -> None:
        super().__init__(code, message, step)
        self.code = code
        self.message = message
        self.step = step

    def __str__(self) -> str:
        """Return code, check and sentence."""
        return f"{self.code}: {f'{self.step}: ' if self.step else ''}{self.message}"

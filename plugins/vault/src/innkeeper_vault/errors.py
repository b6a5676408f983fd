"""What can be wrong with the vault. No message holds a byte of a secret or of a key."""

from __future__ import annotations

from innkeeper_sdk.errors import LimitExceededError, NotFoundError, UsageError, VerificationError

__all__ = ["SecretInvalidError", "SecretNotFoundError", "VaultDamagedError", "VaultFullError"]


class VaultDamagedError(VerificationError):
    """Raised when the vault's file or a key of it is missing or not what was written."""

    code = "vault-damaged"


class VaultFullError(LimitExceededError):
    """Raised when an owner has as many secrets as one may have, or the vault is as large as it may be."""

    code = "vault-full"


class SecretInvalidError(UsageError):
    """Raised when a secret, its name, its namespace or its owner cannot be stored."""

    code = "secret-invalid"


class SecretNotFoundError(NotFoundError):
    """Raised when an owner has no such secret."""

    code = "secret-not-found"

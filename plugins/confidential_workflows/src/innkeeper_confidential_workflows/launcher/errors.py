"""What the launcher raises."""

from __future__ import annotations

from innkeeper_sdk.errors import ProviderError

__all__ = ["LaunchError"]


class LaunchError(ProviderError):
    """Raised when a simulated enclave cannot be measured or started."""

    code = "confidential-simulation"

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, provider="confidential-workflows", path=path, hint=hint)

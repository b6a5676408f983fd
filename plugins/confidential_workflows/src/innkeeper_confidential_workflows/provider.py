"""The provider confidential-workflows: nothing of it is a host part."""

from __future__ import annotations

__all__ = ["plugin"]


class _Plugin:
    """A provider without a host part."""


plugin = _Plugin()

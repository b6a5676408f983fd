"""The plugin of the provider ``vault``: it has a process part and commands, and no host part."""

from __future__ import annotations

__all__ = ["plugin"]


class _Plugin:
    """No hooks: the host never needs to import this."""


plugin = _Plugin()

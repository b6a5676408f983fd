"""The commands of confidential workflows; each is run in a process of its own."""

from __future__ import annotations

__all__: list[str] = []

"""Where an execution's secrets come from when no secret store is there, or when it is simulated.

Rules of this module:

1. A secret's value is in no ``repr``, log or error.
2. No store means that every secret is refused, with the reason; it never means an empty value.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from innkeeper.engine.ports import SecretRefusal

__all__ = ["MemorySecrets", "NoSecrets"]


class NoSecrets:
    """Refuse every secret: there is no store."""

    async def get(self, owner: str, namespace: str, name: str) -> str | SecretRefusal:
        """Return why there is no secret."""
        del owner
        return SecretRefusal(f"no secret store is enabled, so there is no secret {name} in namespace {namespace}")


@frozen
class MemorySecrets:
    """Secrets given for one simulated run.

    Attributes:
        values: The values, by namespace and name.
    """

    values: Mapping[tuple[str, str], str] = field(repr=False)

    async def get(self, owner: str, namespace: str, name: str) -> str | SecretRefusal:
        """Return a secret of the run, or that it was not given."""
        del owner
        value = self.values.get((namespace, name))
        return SecretRefusal(f"secret {name} in namespace {namespace} not found") if value is None else value

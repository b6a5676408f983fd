"""The namespaces of secrets.

Rules of this module:

1. A namespace that is empty or absent is ``main``. This function says so, and nothing else does.
2. Every entry calls it before any comparison, so that one secret has one name.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_NAMESPACE", "normalise"]

DEFAULT_NAMESPACE: Final = "main"


def normalise(namespace: str | None) -> str:
    """Return the namespace that is meant.

    Args:
        namespace: As a guest, a request or an operator wrote it.

    Returns:
        ``main`` for an empty or absent one; any other as it is, its case and blanks too.
    """
    return namespace or DEFAULT_NAMESPACE

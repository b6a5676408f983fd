"""Which workflow somebody means: by id, by name, or by the beginning of its id.

Rules of this module:

1. Exactly one workflow, or an error: an id first, then a name, then a beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from innkeeper.store.specs import SpecHeader
from innkeeper.workflows.identity import parse_owner
from innkeeper_sdk.errors import ConflictError, NotFoundError

__all__ = ["find"]

# Every id begins with the version 00, so less than this says nothing.
_BEGINNING: Final = 4


def find(headers: Iterable[SpecHeader], text: str, owner: str = "") -> SpecHeader:
    """Return the workflow that is meant.

    Args:
        headers: All workflows.
        text: Its id, its name, or a beginning of its id of at least 4 digits.
        owner: Whose it is, in hexadecimal; empty is anybody's.

    Raises:
        NotFoundError: There is none.
        ConflictError: There are several.
        WorkflowError: The owner is no address.
    """
    wanted = parse_owner(owner) if owner else ""
    candidates = [header for header in headers if not wanted or header.owner == wanted]
    lower = text.lower()
    for matches in (
        [header for header in candidates if header.workflow_id == lower],
        [header for header in candidates if header.name == text],
        [header for header in candidates if len(text) >= _BEGINNING and header.workflow_id.startswith(lower)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ConflictError(
                f"{text!r} may be any of {len(matches)} workflows",
                actual=", ".join(sorted(f"{header.workflow_id} of owner {header.owner}" for header in matches)),
                hint="give the whole id, or the owner",
            )
    raise NotFoundError(f"there is no workflow {text[:255]!r}", hint="innkeeper workflow list shows all")

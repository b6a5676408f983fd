"""Ids of capabilities: their grammar, and which registered id answers an asked one.

Rules of this module:

1. An id is ``name[:label…]@semver`` of at most 128 characters, matched whole: what does not match is no id, whatever
   it looks like. Labels belong to the name; another label is another capability.
2. The id that was asked for answers first. Else the smallest greater version of the same name and the same major
   answers; a stable request never gets a pre-release, a pre-release request may get anything greater.
3. Versions are ordered by precedence as in Semantic Versioning 2.0.0: build metadata does not count, so no build of a
   version stands for another build of it.
4. Nothing here knows who asks. The candidates are already what the caller may use.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen
from semver import Version

from innkeeper_sdk.manifest import CAPABILITY_ID, CAPABILITY_ID_LENGTH

__all__ = ["CapabilityId", "choose", "parse"]


@frozen
class CapabilityId:
    """An id in its parts.

    Attributes:
        text: The whole id.
        name: What stands before the ``@``, labels included.
        version: What stands behind it.
    """

    text: str
    name: str
    version: Version = field(eq=False, repr=False)  # equal versions of semver may differ in their build metadata


def parse(text: object) -> CapabilityId | None:
    """Return the parts of an id, or None if it is not one.

    Args:
        text: What was asked for, by anyone.
    """
    if not isinstance(text, str) or len(text) > CAPABILITY_ID_LENGTH:
        return None
    match = CAPABILITY_ID.fullmatch(text)
    if match is None:
        return None
    return CapabilityId(text=text, name=match["name"], version=Version.parse(match["version"]))


def choose(asked: CapabilityId | None, candidates: Iterable[CapabilityId]) -> CapabilityId | None:
    """Return the candidate that answers an asked id, or None.

    Args:
        asked: The parsed id; None, that of a malformed one, is answered by nothing.
        candidates: The ids that the caller may use.
    """
    if asked is None:
        return None
    compatible = []
    for candidate in candidates:
        if candidate.text == asked.text:
            return candidate
        if _answers(candidate, asked):
            compatible.append(candidate)
    # Builds of one version have the same precedence; their text decides, so that the order of registration does not.
    compatible.sort(key=lambda candidate: candidate.text)
    return min(compatible, key=lambda candidate: candidate.version, default=None)


def _answers(candidate: CapabilityId, asked: CapabilityId) -> bool:
    return (
        candidate.name == asked.name
        and candidate.version.major == asked.version.major
        and candidate.version > asked.version
        and (asked.version.prerelease is not None or candidate.version.prerelease is None)
    )

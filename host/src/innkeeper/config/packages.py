"""What ``package`` in plugins.yaml names: a requirement, a directory, or a wheel.

Rules of this module:

1. A path begins with ``./``, ``../`` or ``/``, or ends in ``.whl``; everything else is a requirement (PEP 508).
2. Paths are relative to the file that names them.
3. ``packaging`` is imported only for what is more than a bare name: most entries are one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["Package", "normalised", "parse_package"]

_BARE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)


@frozen
class Package:
    """A package.

    Attributes:
        text: As plugins.yaml says it.
        name: The distribution's normalised name; None for a directory, which tells it only when it is built.
        specifier: The versions that satisfy it, as in PEP 440; empty for any.
        path: The directory or wheel, or None.
    """

    text: str
    name: str | None
    specifier: str = ""
    path: Path | None = None


def normalised(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_package(text: str, *, base: Path) -> Package:
    """Read a package.

    Args:
        text: What plugins.yaml says.
        base: The directory of the file that says it.

    Raises:
        ValueError: It is none; the message says what was expected.
    """
    if _BARE.fullmatch(text) and not text.endswith(".whl"):
        return Package(text, normalised(text))
    if text.endswith(".whl"):
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # noqa: PLC0415 - see rule 3

        path = base / text
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename as error:
            raise ValueError("a wheel's file name") from error
        return Package(text, normalised(name), f"=={version}", path)
    if text.startswith(("./", "../", "/")) or text in (".", ".."):
        return Package(text, None, "", base / text)

    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - see rule 3

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError("a requirement, a directory that begins with ./ or /, or a wheel") from error
    return Package(text, normalised(requirement.name), str(requirement.specifier))

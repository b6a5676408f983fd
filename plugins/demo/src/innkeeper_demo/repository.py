"""Where the demonstration's things are: in a clone of the repository.

Rules of this module: the clone is found from a directory upwards, as git does; a directory is one if it has what the
demonstration needs, and otherwise the error says what that is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from innkeeper_sdk.errors import UsageError

__all__ = ["EXAMPLES", "Repository", "find_repository"]

PLUGINS_NAME: Final = "plugins.yaml"
PLUGINS_VARIABLE: Final = "INNKEEPER_PLUGINS"

# The workflows that are shown: in the open, in the enclave, and one that asks for what it may not have.
EXAMPLES: Final = ("clock", "sealed", "hostile")


@frozen
class Repository:
    """A clone.

    Attributes:
        root: Its directory.
        plugins: What the host loads.
    """

    root: Path
    plugins: tuple[Path, ...]

    def example(self, name: str) -> Path:
        """Return the directory of an example."""
        return self.root / "examples" / name


def find_repository(start: Path, environ: Mapping[str, str]) -> Repository:
    """Return the clone that a directory is in.

    Args:
        start: The directory.
        environ: Where ``INNKEEPER_PLUGINS`` may name other files than the clone's plugins.yaml.

    Raises:
        UsageError: It is in none.
    """
    given = [Path(path).absolute() for path in environ.get(PLUGINS_VARIABLE, "").split(os.pathsep) if path]
    begin = start.absolute()
    for folder in (begin, *begin.parents):
        if (folder / PLUGINS_NAME).is_file() and all((folder / "examples" / name).is_dir() for name in EXAMPLES):
            return Repository(folder, tuple(given) or (folder / PLUGINS_NAME,))
    raise UsageError(
        "the demonstration runs in a clone of the repository",
        path=str(begin),
        expected=f"a {PLUGINS_NAME} and examples/{{{','.join(EXAMPLES)}}}, here or above",
        actual="none",
        hint="change into the clone",
    )

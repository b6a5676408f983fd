"""What somebody with access to the host's database could do to a workflow's binary.

Rules of this module:

1. A binary is changed so that it stays a valid guest that does the same: it gets a custom section, which WebAssembly
   gives no meaning. So nothing but its digest tells it from the one that was deployed, and whoever does not compare
   digests runs it with success.
2. Only the demonstration's own database is ever written to.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from innkeeper_demo.errors import StepError

__all__ = ["replace_binary", "with_section"]

_MAGIC: Final = b"\0asm"
_BUSY_SECONDS: Final = 5.0


def with_section(binary: bytes, name: str) -> bytes:
    """Return a binary with an empty custom section behind what it has.

    Args:
        binary: WebAssembly.
        name: The section's name, at most 100 ASCII characters.
    """
    text = name.encode("ascii")
    if not binary.startswith(_MAGIC) or len(text) > 100:
        raise ValueError("not WebAssembly, or not a short name")
    # Section 0 is custom; sizes are LEB128, one byte below 128.
    return binary + bytes([0, len(text) + 1, len(text)]) + text


def replace_binary(database: Path, workflow_id: str, binary: bytes) -> None:
    """Replace the binary that a host has stored of a workflow.

    Args:
        database: The host's SQLite file.
        workflow_id: Whose.
        binary: What to store.

    Raises:
        StepError: There is no such row.
    """
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
        changed = connection.execute(
            "UPDATE workflow_specs_v2 SET workflow = ? WHERE workflow_id = ?", (binary.hex(), workflow_id)
        ).rowcount
    if changed != 1:
        raise StepError("the stored binary cannot be replaced", expected="one row", actual=f"{changed} rows")

"""Standard output, kept for the handshake alone.

Rules of this module:

1. The host reads one line there. So the descriptor is taken away before anything else, and whatever is printed from
   then on goes to standard error, a library's own writes and a child's included.
2. What Python has buffered until then goes there too: a module that prints while it is imported does no harm, if it
   does not flush.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["claim", "write_line"]

_STDOUT: Final = 1
_STDERR: Final = 2


def claim() -> int:
    """Point standard output at standard error.

    Returns:
        A descriptor of what was standard output; children do not inherit it.

    Raises:
        OSError: One of the two is closed.
    """
    saved = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return saved


def write_line(fd: int, line: str) -> None:
    """Write the handshake line.

    Raises:
        OSError: Nobody reads it.
    """
    data = os.fsencode(line)
    while data:
        data = data[os.write(fd, data) :]

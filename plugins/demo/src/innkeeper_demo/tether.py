"""Start a command that is told to stop when its parent is gone.

Rules of this module:

1. ``python -I -m innkeeper_demo.tether PARENT COMMAND…``: becomes the command; SIGTERM comes to it when the process
   PARENT, which started it, ends in whatever way.
2. A parent that is gone before that is noticed, and nothing is started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["main", "tethered"]

# linux/prctl.h; the setting survives execve(2).
_PR_SET_PDEATHSIG: Final = 1


def tethered(command: Sequence[str]) -> list[str]:
    """Return the command line that runs a command tethered to this process."""
    return [sys.executable, "-I", "-m", "innkeeper_demo.tether", str(os.getpid()), *command]


def main(arguments: Sequence[str]) -> int:
    """Become the command.

    Args:
        arguments: The parent's process id, then the command with its arguments.

    Returns:
        1: the parent is gone, or the signal cannot be had.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return 1
    parent, *command = arguments
    if os.getppid() != int(parent):
        return 1
    return os.execv(command[0], command)  # noqa: S606 - the command line of whoever started this


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

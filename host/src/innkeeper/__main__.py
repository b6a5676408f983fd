"""The command ``innkeeper``, and ``python -m innkeeper``.

Rules of this module:

1. A command is short: looking for garbage while it imports, and once more when it ends, would be a sixth of its time.
"""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]

# Python's own is 700. Imports make very many objects and hardly any garbage; a host that runs long is still collected.
_THRESHOLD = 50_000


def main() -> int:
    """Run the command line of this process; return the exit code."""
    gc.set_threshold(_THRESHOLD)
    from innkeeper.cli.main import main as run  # noqa: PLC0415 - after the line above

    try:
        return run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    sys.exit(main())

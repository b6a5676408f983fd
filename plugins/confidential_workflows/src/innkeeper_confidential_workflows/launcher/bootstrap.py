"""The ``__main__`` of a bundle: runs one of its modules, named by the first argument, with the rest of them.

An interpreter that is started on a directory, isolated and without ``site``, finds the standard library, and what is in
that directory; nothing else that is installed, no ``.pth`` file and no start-up hook.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)

"""The command line: what a person or a script says to Innkeeper.

Rules of this package:

1. One file per noun, imported when it is called; ``--help`` and a list of commands import none of them.
2. Data goes to stdout, talk to stderr. ``-o table|json|yaml|plain`` chooses the form of the data.
3. Exit codes: those of :class:`innkeeper_sdk.errors.ExitCode`; a reader that closes our stdout is no error of ours, and
   ends the command as its signal would have (141, as shells show it).
"""

from __future__ import annotations

__all__: list[str] = []

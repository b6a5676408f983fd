"""The provider's commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from innkeeper_sdk.errors import WorkflowError


def say(arguments: Sequence[str]) -> int:
    """Print the arguments and what the environment says of the host."""
    print(list(arguments))
    for name in ("INNKEEPER_PLUGINS", "INNKEEPER_DATA_DIR", "INNKEEPER_NAME"):
        print(name, os.environ.get(name))
    print("modules", sorted(name for name in sys.modules if name.split(".")[0] == "innkeeper"))
    if "fail" in arguments:
        raise WorkflowError("the command failed")
    if "die" in arguments:
        os.kill(os.getpid(), 9)
    return 7 if "seven" in arguments else 0


def count(arguments: Sequence[str]) -> int:
    """Print how many arguments there are."""
    print(len(arguments))
    return 0

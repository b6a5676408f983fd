"""The ids of providers and of capabilities.

Rules of this module:

1. Nothing is imported here: a command that lists what a file names needs the grammar and no more.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CAPABILITY_ID", "CAPABILITY_ID_LENGTH", "HOST_ID", "PROVIDER_ID"]

PROVIDER_ID: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)

# The provider of what the host itself offers; no other has this id.
HOST_ID: Final = "innkeeper"

# The reference's grammar of capability ids (chainlink-common, capabilities.go), with its limit of 128 characters.
CAPABILITY_ID: Final = re.compile(
    r"(?P<name>[A-Za-z0-9_\-:]+)"
    r"@(?P<version>(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)"
    r"(?:-(?:(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)",
    re.ASCII,
)
CAPABILITY_ID_LENGTH: Final = 128

"""Find Node.js and npm, and say clearly what is wrong with them.

Rules of this module: the newest requirement of the tools that npm brings decides the version; a Node that is
too old is refused before npm makes an obscure error of it.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from attrs import frozen

from innkeeper_wasm.build.errors import NodeError
from innkeeper_wasm.build.tools import Toolbox, ToolError, excerpt

__all__ = ["MINIMUM", "Node", "find_node"]

MINIMUM = 20  # the oldest major version that the official tools are run with
# On a line of its own: Node.js may warn beside it.
_VERSION = re.compile(r"^v((\d+)\.\d+\.\d+\S*)$", re.MULTILINE)
_HINT = f"install Node.js {MINIMUM} or newer (npm comes with it) and put it on PATH"


@frozen
class Node:
    """Where Node.js and npm are, and the version of Node.js (without its ``v``)."""

    node: Path
    npm: Path
    version: str


def find_node(tools: Toolbox) -> Node:
    """Return the Node.js and npm of ``PATH``.

    Raises:
        NodeError: One of them is missing, cannot be run, or Node.js is older than :data:`MINIMUM`.
    """
    node = shutil.which("node")
    if node is None:
        raise NodeError("Node.js was not found", expected="node on PATH", actual="none", hint=_HINT)
    try:
        outcome = tools.run([node, "--version"], cwd=Path("/"), env=os.environ)
    except ToolError as error:
        raise NodeError(f"Node.js {error.problem}", path=node, hint=_HINT) from error
    match = _VERSION.search(outcome.output)
    if outcome.code != 0 or match is None:
        raise NodeError(
            "Node.js does not tell its version",
            path=node,
            expected="v followed by three numbers",
            actual=f"exit code {outcome.code}",
            hint=_HINT,
            detail=excerpt(outcome.output.splitlines()),
        )
    if int(match[2]) < MINIMUM:
        raise NodeError(
            "Node.js is too old",
            path=node,
            expected=f"version {MINIMUM} or newer",
            actual=match[1],
            hint=_HINT,
        )
    npm = shutil.which("npm")
    if npm is None:
        raise NodeError("npm was not found", expected="npm on PATH", actual="none", hint=_HINT)
    return Node(node=Path(node), npm=Path(npm), version=match[1])

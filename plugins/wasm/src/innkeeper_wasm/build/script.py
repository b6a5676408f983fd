"""What the linker needs to know of a script and of its interface: names, and no more.

Rules of this module: the interface is a WIT world whose exports are functions without parameters and results,
as the SDK ships it; the script is the bundler's output, one ES module whose export statements stand at the
start of a line.
"""

from __future__ import annotations

import re

from innkeeper_wasm.build.errors import LinkError
from innkeeper_wasm.build.javy_link import EntryPoint

__all__ = ["entry_points", "exported_names"]

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_EXPORT = re.compile(r"export\s+%?([a-z][a-z0-9-]*)\s*:\s*([^;]*);")
_NO_PARAMETERS = re.compile(r"func\s*\(\s*\)")
_LIST = re.compile(r"^export\s*\{([^}]*)\}", re.MULTILINE)
_DECLARATION = re.compile(
    r"^export\s+(?:async\s+)?(?:function\s*\*?|const|let|var|class)\s*([A-Za-z_$][\w$]*)", re.MULTILINE
)


def _camel(name: str) -> str:
    head, *rest = name.split("-")
    return head + "".join(part.capitalize() for part in rest)


def entry_points(wit: str, world: str) -> list[EntryPoint]:
    """Return the entry points that a world of a WIT file asks for.

    Raises:
        LinkError: The file has no such world, or exports something else than a function without parameters.
    """
    text = _COMMENT.sub("", wit)
    body = re.search(rf"\bworld\s+%?{re.escape(world)}\s*\{{([^}}]*)\}}", text)
    if body is None:
        raise LinkError("the interface of the SDK's plugin cannot be read", expected=f"a world {world}", actual="none")
    found = []
    for match in _EXPORT.finditer(body[1]):
        if not _NO_PARAMETERS.fullmatch(match[2].strip()):
            raise LinkError(
                f"the interface of the SDK's plugin exports {match[1]} in a form that cannot be linked",
                expected="func()",
                actual=match[2].strip(),
            )
        found.append(EntryPoint(export=match[1], function=_camel(match[1])))
    return found


def exported_names(script: str) -> set[str]:
    """Return the names that an ES module exports."""
    names = {match[1] for match in _DECLARATION.finditer(script)}
    for listed in _LIST.finditer(script):
        for item in listed[1].split(","):
            if item.strip():
                names.add(item.split()[-1])
    return names

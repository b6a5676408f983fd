"""What of a provider runs: its host part, its process parts, and the helpers of those.

Rules of this module:

1. Which parts there are is told by the manifest's document and the entry's ``mode`` alone; nothing is imported, not
   even the manifest's records, so that a command can list them.
2. There is a host part if there is something that the host would import the provider for.
3. A process is started unless all that it serves runs in the host's process. A helper runs once for each process that
   names it, and for none if no such process runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from innkeeper.providers.states import ProviderState

__all__ = ["HOST_PART", "DeclaredPart", "PartRow", "declared_parts", "hosted"]

# The host part's name; no process has it.
HOST_PART: Final = "host"

_HOST: Final = "host"
_LOOP: Final = "loop"
_HELPER: Final = "helper"


@frozen
class DeclaredPart:
    """A part that this host would start.

    Attributes:
        name: ``host``, or the name in the manifest.
        mode: ``host``, ``loop`` or ``helper``.
        process: Of a helper, the process that it helps.
    """

    name: str
    mode: str
    process: str = ""


@frozen
class PartRow:
    """A part as it is listed.

    Attributes:
        name: ``host``, or the name in the manifest.
        mode: ``host``, ``loop`` or ``helper``.
        state: How it is.
        reason: One sentence; empty where there is nothing to say.
        since: When it came to be so, in UTC.
        pid: Its process; the host's own for a host part. None while there is none.
        generation: Counts the launches of a process, from 1. None before the first, and for a host part.
    """

    name: str
    mode: str
    state: ProviderState
    reason: str
    since: datetime
    pid: int | None = None
    generation: int | None = None


def hosted(where: Sequence[str], mode: str | None) -> bool:
    """Return whether a capability runs in the host's process.

    Args:
        where: Where it can run.
        mode: What the entry asks for, where there is a choice.
    """
    return mode != _LOOP if len(where) > 1 else _HOST in where


def declared_parts(document: Mapping[str, Any] | None, mode: str | None) -> tuple[DeclaredPart, ...]:
    """Return the parts of a provider, the host part first, each helper after its process.

    Args:
        document: The values of its manifest, which is valid; None if there is none.
        mode: What the entry asks for, where there is a choice.
    """
    return () if document is None else tuple(_parts(document, mode))


def _parts(document: Mapping[str, Any], mode: str | None) -> Iterator[DeclaredPart]:
    in_host = {item["id"]: hosted(item.get("where", (_HOST,)), mode) for item in document.get("capabilities", ())}
    if document.get("modules") or document.get("services") or any(in_host.values()):
        yield DeclaredPart(HOST_PART, _HOST)
    processes: Mapping[str, Mapping[str, Any]] = document.get("processes", {})
    for name, process in processes.items():
        serves = process.get("capabilities", ())
        if process.get("helper") or (serves and all(in_host[id_] for id_ in serves)):
            continue
        yield DeclaredPart(name, _LOOP)
        for need in process.get("needs", ()):
            if processes[need].get("helper"):
                yield DeclaredPart(need, _HELPER, name)

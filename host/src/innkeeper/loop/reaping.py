"""Ending a process with everything that belongs to it.

Rules of this module:

1. This is the one place that ends processes of providers: every end of a generation, wanted or not, comes by here.
2. What belongs to a launch: its process and its helpers, their sessions and descendants, and whatever has the launch's
   mark in its environment. It is stopped first, so that no fork slips through, then killed, stopped ones too.
3. Only when it has ended its directory is removed and the guard forgets it. What could not be ended stays noted.
4. Bounded: what cannot be ended in time is told, not waited for.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from attrs import frozen

from innkeeper.loop.guard import Guard
from innkeeper.loop.guard_process import Process, end

__all__ = ["Reaped", "Remains", "reap"]


@frozen
class Remains:
    """What is left of a launch.

    Attributes:
        processes: Its process and its helpers, those that were started.
        mark: ``NAME=value``: in the environment of whatever belongs to it, and of nothing else.
        directory: Its private directory.
    """

    processes: tuple[Process, ...]
    mark: str
    directory: Path


@frozen
class Reaped:
    """What became of it.

    Attributes:
        ended: The ids of the processes that were ended here.
        left: The ids of those that could not be.
        fault: Why its directory could not be removed; empty if it was.
    """

    ended: tuple[int, ...]
    left: tuple[int, ...]
    fault: str = ""


async def reap(remains: Remains, *, guard: Guard, seconds: float) -> Reaped:
    """End what is left of a launch, and remove what it leaves.

    Args:
        remains: What it is.
        guard: Forgets it.
        seconds: How long processes may take to be gone.
    """
    # In a thread: it reads all of /proc, and waits.
    found, left = await asyncio.to_thread(end, list(remains.processes), remains.mark.encode(), seconds)
    if left:
        return Reaped(tuple(pid for pid in found if pid not in left), tuple(left))
    for process in remains.processes:
        guard.drop_process(process.pid)
    try:
        await asyncio.to_thread(shutil.rmtree, remains.directory)
    except FileNotFoundError:
        pass  # it was never made, or has been removed
    except OSError as error:
        return Reaped(tuple(found), (), str(error))
    guard.drop_path(remains.directory)
    return Reaped(tuple(found), ())

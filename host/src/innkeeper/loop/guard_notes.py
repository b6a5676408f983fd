"""What is said to the guard of processes and paths; ``guard_process`` says what it makes of it.

Rules of this module:

1. One note for one thing, in the form that ``guard_process`` reads.
2. What a new guard must know is a file in memory, a NUL behind each note: however much it is, it blocks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from innkeeper.loop.guard_process import Process

__all__ = ["file_of", "path_note", "process_note"]


def process_note(process: Process) -> bytes:
    """Return the note that has a process ended."""
    return b"+pid %d %d %d" % process


def path_note(path: str) -> bytes:
    """Return the note that has a path removed."""
    return b"+path " + os.fsencode(path)


def file_of(processes: Iterable[Process], paths: Iterable[str]) -> int:
    """Return a descriptor of a file with the notes of all of them, to be read from its beginning.

    Raises:
        OSError: There is no descriptor or no memory left.
    """
    notes = [*map(process_note, processes), *map(path_note, paths)]
    file = os.memfd_create("innkeeper-guard-notes")
    with open(file, "wb", closefd=False) as writer:
        writer.write(b"".join(note + b"\0" for note in notes))
    os.lseek(file, 0, os.SEEK_SET)
    return file

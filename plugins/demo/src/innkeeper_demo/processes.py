"""Processes as ``/proc`` shows them.

Rules of this module:

1. A process is its id *and* its start time: an id alone may be another's by now.
2. A host's processes are found twice: by descent, and by the mark that the host gives its children's environments. What
   was seen once is remembered, so that a process that has lost its parent and hidden its environment is still known.
3. Signals go through process descriptors, after the start time was compared.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection, Iterable
from typing import Final

from attrs import frozen

__all__ = ["Family", "Process", "descendants", "process_table", "send_signal"]

# The variable in the environment of whatever a host starts; its value is the host's process id and start time.
MARK_NAME: Final = "INNKEEPER_GUARDED"

# proc(5), /proc/<pid>/stat: what follows the name in parentheses, from field 3.
_STATE, _PPID, _START = 0, 1, 19


@frozen
class Process:
    """A process.

    Attributes:
        pid: Its id.
        start: When it started, in clock ticks since boot.
        ppid: Its parent's id.
        state: As the kernel writes it; Z and X are dead.
        name: As the kernel has it, at most 15 bytes.
    """

    pid: int
    start: int
    ppid: int
    state: str
    name: str


def read_process(pid: int) -> Process | None:
    """Return a process, or None if there is none with this id."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses; the last parenthesis ends it.
    begin, end = text.index(b"("), text.rindex(b")")
    fields = text[end + 2 :].split()
    return Process(
        pid=pid,
        start=int(fields[_START]),
        ppid=int(fields[_PPID]),
        state=fields[_STATE].decode("ascii"),
        name=text[begin + 1 : end].decode("utf-8", "replace"),
    )


def process_table() -> dict[int, Process]:
    """Return the living processes by their ids."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process is not None and process.state not in "ZX"}


def descendants(roots: Collection[int], table: dict[int, Process]) -> list[Process]:
    """Return the processes below some others, without those, sorted by their ids."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.ppid, []).append(process.pid)
    found: set[int] = set()
    queue = list(roots)
    while queue:
        for pid in children.get(queue.pop(), ()):
            if pid not in found:
                found.add(pid)
                queue.append(pid)
    return [table[pid] for pid in sorted(found - set(roots))]


def send_signal(process: Process, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; return whether there was one."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        now = read_process(process.pid)
        if now is None or now.start != process.start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


class Family:
    """Know every process of a host.

    Args:
        host: The host's process id; the process lives.
    """

    def __init__(self, host: int) -> None:
        process = read_process(host)
        if process is None:
            raise ProcessLookupError(f"no process {host}")
        self.host = process
        self._mark = f"{MARK_NAME}={host}-{process.start}".encode()
        self._seen: dict[tuple[int, int], Process] = {}

    def look(self) -> dict[int, Process]:
        """Take note of the host's processes, and return the table of all."""
        table = process_table()
        if self._is(self.host, table):
            self._remember(descendants([self.host.pid], table))
        self._remember(table[pid] for pid in _marked(self._mark) if pid in table)
        return table

    def living(self) -> list[Process]:
        """Return those that live, the host itself left out."""
        table = self.look()
        return [table[seen.pid] for seen in self._seen.values() if self._is(seen, table)]

    def await_end(self, seconds: float) -> list[Process]:
        """Wait until none of them lives, and return those that do so nevertheless.

        Args:
            seconds: How long.
        """
        deadline = time.monotonic() + seconds
        while living := self.living():
            left = deadline - time.monotonic()
            if left <= 0 or not _await_one(living[0], left):
                return living
        return []

    def end(self) -> None:
        """Kill those that live."""
        for process in self.living():
            send_signal(process, signal.SIGKILL)

    def _remember(self, processes: Iterable[Process]) -> None:
        self._seen.update({(process.pid, process.start): process for process in processes})

    @staticmethod
    def _is(process: Process, table: dict[int, Process]) -> bool:
        return process.pid in table and table[process.pid].start == process.start


def _await_one(process: Process, seconds: float) -> bool:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _marked(mark: bytes) -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.add(int(name))
        except OSError:
            continue  # it has ended, or is not to be looked into: then descent is how it is known
    return found

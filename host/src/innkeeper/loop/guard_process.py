"""The guard itself: ends and cleans everything when the host is gone.

Rules of this module:

1. It is run by its path in an interpreter of its own that loads nothing else (``python -I -S``): it stays small, and no
   fault of the host's environment reaches it. So it imports the standard library alone, and only what it needs.
2. It reads notes from the host until the host says goodbye (then it ends) or is gone (then it cleans, and ends).
3. It kills by process descriptor after it has compared start times: a process id may belong to somebody else by now.
4. It first stops what it will kill, until nothing new appears, so that no fork slips through.
5. Besides what was noted it ends whatever has the host's mark in its environment: children inherit it, so a process
   that some provider started and nobody noted is found all the same.

Notes are one datagram each: ``+pid <pid> <start time> <leads its session: 0|1>``, ``-pid <pid>``, ``+path <path>``,
``-path <path>``, ``bye``. Notes sent before the host died are read after its death: the kernel keeps them. What was
known when the guard started stands in a file, notes with a NUL behind each.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from typing import NamedTuple

# A datagram of the kernel's longest path, PATH_MAX, and its verb.
NOTE_BYTES = 4096 + 16

# proc(5), /proc/<pid>/stat: what follows the name in parentheses, from field 3.
_STATE, _PPID, _SESSION, _START = 0, 1, 3, 19

# How long processes may take to be gone after SIGKILL; one in an uninterruptible system call takes what it takes.
_KILL_SECONDS = 2.0


class Process(NamedTuple):
    """A process that the host wants ended with it."""

    pid: int
    start: int
    leads: bool


class Stat(NamedTuple):
    """What the kernel says of a process; ``start`` is in clock ticks since boot."""

    state: str
    ppid: int
    session: int
    start: int


class Notes:
    """What the host has asked for so far."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.paths: dict[bytes, None] = {}
        self.goodbye = False

    def take(self, note: bytes) -> None:
        """Take one note.

        Raises:
            ValueError: It is not one.
        """
        verb, _, rest = note.partition(b" ")
        if verb == b"bye":
            self.goodbye = True
        elif verb == b"+path":
            self.paths[rest] = None
        elif verb == b"-path":
            self.paths.pop(rest, None)
        elif verb == b"+pid":
            pid, start, leads = (int(number) for number in rest.split())
            self.processes[pid] = Process(pid, start, bool(leads))
        elif verb == b"-pid":
            self.processes.pop(int(rest), None)
        else:
            raise ValueError(f"no note: {note[:64]!r}")


def read_stat(pid: int) -> Stat | None:
    """Return what the kernel says of a process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses; the last parenthesis ends it.
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(fields[_STATE].decode(), int(fields[_PPID]), int(fields[_SESSION]), int(fields[_START]))


def wait_for_end(notes: Notes, sock: socket.socket, host: int) -> None:
    """Take notes until the host says goodbye or is gone.

    Args:
        notes: Where they go.
        sock: The host's notes, one datagram each.
        host: A descriptor of the host's process.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(host, select.POLLIN)
    gone = False
    while not (notes.goodbye or gone):
        gone = any(fd == host for fd, _ in poll.poll())
        while not notes.goodbye:
            try:
                note = sock.recv(NOTE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                note = b""
            if not note:
                gone = True
                break
            notes.take(note)


def marked(mark: bytes) -> set[int]:
    """Return the processes that were started with a mark, ``NAME=value``, in their environment."""
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.add(int(name))
        except OSError:
            continue  # it has ended, or is not to be looked into: then it is not of our user
    return found


def family(processes: list[Process], mark: bytes) -> dict[int, int]:
    """Return the start times, by process id, of the living ones of some processes, their descendants and sessions.

    A session outlives its leader under the same number, which the kernel gives to no process meanwhile. If a process
    with that number lives and is another one, the session is not ours.
    """
    table = {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := read_stat(int(name)))}
    roots = {p.pid for p in processes if p.pid in table and table[p.pid].start == p.start}
    sessions = {p.pid for p in processes if p.leads and (p.pid in roots or p.pid not in table)}
    children: dict[int, list[int]] = {}
    for pid, stat in table.items():
        children.setdefault(stat.ppid, []).append(pid)
    found: dict[int, int] = {}
    queue = [*roots, *(marked(mark) & table.keys()), *(pid for pid, stat in table.items() if stat.session in sessions)]
    while queue:
        pid = queue.pop()
        if pid not in found and pid != os.getpid():
            found[pid] = table[pid].start
            queue += children.get(pid, ())
    return {pid: start for pid, start in found.items() if table[pid].state not in "ZX"}


def send(pid: int, start: int, number: int) -> bool:
    """Send a signal to the process that has this id and this start time; return whether there was one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        stat = read_stat(pid)
        if stat is None or stat.start != start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False  # gone, or of another user by now: what still lives is told at the end
    finally:
        os.close(descriptor)
    return True


def end(processes: list[Process], mark: bytes) -> tuple[int, int]:
    """Kill processes with all that belongs to them; return how many there were, and how many could not be ended."""
    stopped: dict[int, int] = {}
    while fresh := {pid: start for pid, start in family(processes, mark).items() if stopped.get(pid) != start}:
        for pid, start in fresh.items():
            send(pid, start, signal.SIGSTOP)
        stopped.update(fresh)
    for pid, start in stopped.items():
        send(pid, start, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    left = stopped
    while left and time.monotonic() < deadline:
        left = {pid: start for pid, start in left.items() if _lives(pid, start)}
        time.sleep(0.002 if left else 0)
    return len(stopped), len(left)


def _lives(pid: int, start: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and stat.start == start and stat.state not in "ZX"


def remove(path: bytes) -> None:
    """Remove a file, a socket or a whole directory; one that is gone is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        from shutil import rmtree  # noqa: PLC0415 - costs three times the guard's own start, and is seldom needed

        rmtree(path)


def main(arguments: list[str]) -> int:
    """Run the guard.

    Args:
        arguments: The descriptors of the notes' socket, of the host's process, and of the file with the first notes;
            and the host's mark.
    """
    # What ends the host, a terminal's Ctrl-C or a service manager, must not end its guard first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with open("/proc/self/comm", "w") as file:
        file.write("innkeeper-guard")
    sock, host, known = (int(argument) for argument in arguments[:3])
    notes = Notes()
    with open(known, "rb") as first:
        for note in first.read().split(b"\0")[:-1]:
            notes.take(note)
    with socket.socket(fileno=sock) as connection:
        wait_for_end(notes, connection, host)
    if notes.goodbye:
        return 0
    ended, left = end(list(notes.processes.values()), os.fsencode(arguments[3]))
    faults = [f"{left} processes cannot be ended"] if left else []
    for path in notes.paths:
        try:
            remove(path)
        except OSError as error:
            faults.append(str(error))
    print("; ".join([f"guard: the host is gone, {ended} processes of it were left", *faults]), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

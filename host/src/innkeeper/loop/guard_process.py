"""The guard itself: ends and cleans everything when the host is gone.

Rules of this module:

1. It is run by its path in an interpreter of its own that loads nothing else (``python -I -S``): it stays small, and no
   fault of the host's environment reaches it. So it imports the standard library alone, and only what it needs, and
   it is one file, though a long one.
2. It reads notes from the host until the host says goodbye (then it ends) or is gone (then it cleans, and ends).
3. It kills by process descriptor after it has compared start times: a process id may belong to somebody else by now.
4. It first stops what it will kill, until nothing new appears, so that no fork slips through.
5. Besides what was noted it ends whatever has the host's mark in its environment: children inherit it, so a process
   that some provider started and nobody noted is found all the same.
6. It starts helpers for the host: as their parent it learns how they end, and no thread of the host is theirs. It knows
   of a helper before the host does, and never waits for the host to listen.

Notes are one datagram each: ``+pid <pid> <start time> <leads its session: 0|1>``, ``-pid <pid>``, ``+path <path>``,
``-path <path>``, ``spawn <number>``, ``bye``. Notes sent before the host died are read after its death: the kernel
keeps them. What was known when the guard started stands in a file, notes with a NUL behind each.

A ``spawn`` brings three descriptors: a file with the program's path and its environment, a NUL behind each; its socket,
which it finds as number 3; and what takes its output. It is answered by ``spawned <number> <pid> <start time>`` with a
descriptor of the process, or by ``failed <number> <errno>``; in the end by ``ended <number> <status>``, a negative
status being the signal.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

# A datagram of the kernel's longest path, PATH_MAX, and its verb.
NOTE_BYTES = 4096 + 16

# proc(5), /proc/<pid>/stat: what follows the name in parentheses, from field 3.
_STATE, _PPID, _SESSION, _START = 0, 1, 3, 19

# Signals that are the host's business: the guard ignores them, and what it starts does not inherit that.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)

# The descriptor by which a helper finds its socket, behind the three that every process has.
HELPER_SOCKET = 3

# The kernel takes no argument or variable of more than 128 KiB, and all of them together are at most a few of those.
_PROGRAM_BYTES = 2 << 20

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
            pid, start, leads = _numbers(rest, 3)
            if leads not in (0, 1):
                raise ValueError(f"no note: {note[:64]!r}")
            self.processes[pid] = Process(pid, start, bool(leads))
        elif verb == b"-pid":
            (pid,) = _numbers(rest, 1)
            self.processes.pop(pid, None)
        else:
            raise ValueError(f"no note: {note[:64]!r}")


class Helpers:
    """The processes that the guard starts for the host.

    Args:
        notes: Where they are noted.
    """

    def __init__(self, notes: Notes) -> None:
        self.answers: list[tuple[bytes, int]] = []
        self._notes = notes
        self._living: dict[int, tuple[int, int]] = {}

    def spawn(self, number: int, handed: list[int]) -> int | None:
        """Start one.

        Args:
            number: What the host knows it by.
            handed: The descriptors of its program, its socket and its output; they are closed.

        Returns:
            A descriptor that is readable when it has ended; None if it could not be started.

        Raises:
            ValueError: What is to be started is not said as it must be.
        """
        try:
            program, sock, output = handed
            path, environ = read_program(program)
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, b"/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
                (os.POSIX_SPAWN_DUP2, sock, HELPER_SOCKET),
            ]
            pid = os.posix_spawn(path, [path], environ, file_actions=actions, setsid=True, setsigdef=_IGNORED)
        except OSError as error:
            self.answers.append((b"failed %d %d" % (number, error.errno or 0), -1))
            return None
        finally:
            for descriptor in handed:
                os.close(descriptor)
        stat = read_stat(pid)
        if stat is None:
            raise ValueError("/proc does not show a child that has not been waited for")
        self._notes.processes[pid] = Process(pid, stat.start, leads=True)
        descriptor = os.pidfd_open(pid)
        self._living[descriptor] = (number, pid)
        self.answers.append((b"spawned %d %d %d" % (number, pid, stat.start), os.dup(descriptor)))
        return descriptor

    def ended(self, descriptor: int) -> bool:
        """Take note that a helper has ended; return whether the descriptor is of one."""
        if descriptor not in self._living:
            return False
        number, pid = self._living.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        self.answers.append((b"ended %d %d" % (number, os.waitstatus_to_exitcode(status)), -1))
        return True

    def tell(self, sock: socket.socket) -> None:
        """Send the answers that the host's socket has room for."""
        while self.answers:
            answer, descriptor = self.answers[0]
            try:
                transmit(sock, answer, [descriptor] if descriptor >= 0 else [], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                pass  # the host is gone, which is noticed where notes are read
            self.answers.pop(0)
            if descriptor >= 0:
                os.close(descriptor)


def _numbers(text: bytes, count: int) -> list[int]:
    fields = text.split(b" ")
    if len(fields) != count or not all(field.isdigit() for field in fields):
        raise ValueError(f"expected {count} numbers, found {text[:64]!r}")
    return [int(field) for field in fields]


def read_program(file: int) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the path and the environment that a file says, a NUL behind each.

    Raises:
        ValueError: It says them otherwise.
    """
    text = b""
    while chunk := os.pread(file, _PROGRAM_BYTES, len(text)):
        text += chunk
        if len(text) > _PROGRAM_BYTES:
            raise ValueError("a program with its environment is too long")
    path, *variables = text.split(b"\0")
    if not path.startswith(b"/") or not variables or variables.pop() != b"":
        raise ValueError(f"expected an absolute path and variables, a NUL behind each, found {text[:64]!r}")
    environ = {}
    for variable in variables:
        name, equals, value = variable.partition(b"=")
        if not name or not equals or name in environ:
            raise ValueError(f"expected a variable, once, found {name[:64]!r}")
        environ[name] = value
    return path, environ


def transmit(sock: socket.socket, note: bytes, handed: Sequence[int] = (), flags: int = 0) -> None:
    """Send one note or answer, with descriptors."""
    # socket.send_fds does not pass its flags on (python/cpython, Lib/socket.py).
    descriptors = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in handed)
    sock.sendmsg([note], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if descriptors else [], flags)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return one note and the descriptors that came with it.

    Raises:
        BlockingIOError: There is none.
        ConnectionError: The host is gone.
    """
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    note, ancillary, *_ = sock.recvmsg(NOTE_BYTES, socket.CMSG_SPACE(3 * 4), flags)
    return note, [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for at in range(0, len(data) - 3, 4)
    ]


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
    """Take notes and start helpers until the host says goodbye or is gone.

    Args:
        notes: Where they go.
        sock: The host's notes, one datagram each.
        host: A descriptor of the host's process.
    """
    helpers = Helpers(notes)
    poll = select.poll()
    poll.register(host, select.POLLIN)
    gone = False
    while not (notes.goodbye or gone):
        helpers.tell(sock)
        poll.register(sock, select.POLLIN | (select.POLLOUT if helpers.answers else 0))
        ready = {descriptor for descriptor, _ in poll.poll()}
        gone = host in ready
        for descriptor in ready:
            if helpers.ended(descriptor):
                poll.unregister(descriptor)
        while not notes.goodbye:
            try:
                note, handed = receive(sock)
            except BlockingIOError:
                break
            except ConnectionError:
                note, handed = b"", []
            if not note:
                gone = True
                break
            verb, _, rest = note.partition(b" ")
            if verb == b"spawn":
                (number,) = _numbers(rest, 1)
                started = helpers.spawn(number, handed)
                if started is not None:
                    poll.register(started, select.POLLIN)
            else:
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


def end(processes: list[Process], mark: bytes, seconds: float = _KILL_SECONDS) -> tuple[list[int], list[int]]:
    """Kill processes with all that belongs to them.

    Args:
        processes: The processes.
        mark: ``NAME=value``: what has it in its environment belongs to them.
        seconds: How long to wait until they are gone.

    Returns:
        The process ids of all that were found, and of those among them that could not be ended.
    """
    stopped: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while fresh := {pid: start for pid, start in family(processes, mark).items() if stopped.get(pid) != start}:
        for pid, start in fresh.items():
            send(pid, start, signal.SIGSTOP)
        stopped.update(fresh)
        if time.monotonic() > deadline:
            break  # what cannot be stopped may fork for ever
    for pid, start in stopped.items():
        send(pid, start, signal.SIGKILL)
    left = stopped
    while left and time.monotonic() < deadline:
        left = {pid: start for pid, start in left.items() if _lives(pid, start)}
        time.sleep(0.002 if left else 0)
    return sorted(stopped), sorted(left)


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
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with open("/proc/self/comm", "w") as file:
        file.write("innkeeper-guard")
    sock, host, known = (int(argument) for argument in arguments[:3])
    for descriptor in (sock, host):
        os.set_inheritable(descriptor, False)
    notes = Notes()
    with open(known, "rb") as first:
        for note in first.read().split(b"\0")[:-1]:
            notes.take(note)
    with socket.socket(fileno=sock) as connection:
        wait_for_end(notes, connection, host)
    if notes.goodbye:
        return 0
    ended, left = end(list(notes.processes.values()), os.fsencode(arguments[3]))
    faults = [f"the processes {', '.join(map(str, left))} cannot be ended"] if left else []
    for path in notes.paths:
        try:
            remove(path)
        except OSError as error:
            faults.append(str(error))
    print("; ".join([f"guard: the host is gone, {len(ended)} processes of it were left", *faults]), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

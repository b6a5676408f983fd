"""The guard's own process: what it reads, whom it ends, what it removes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper.loop import guard_process
from innkeeper.loop.guard_process import Notes, Process, end, family, read_stat, remove, send, wait_for_end

DEADLINE = 10.0
MARK = b"INNKEEPER_GUARDED=of-no-process"

# Starts two descendants, one of them orphaned, says who they are, and waits.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
middle = os.fork()
if middle == 0:
    orphan = subprocess.Popen(["sleep", "600"])
    print(orphan.pid, flush=True)
    os._exit(0)
os.waitpid(middle, 0)
print(child.pid, flush=True)
time.sleep(600)
"""


def wait_gone(*pidfds: int) -> None:
    """Wait until processes have ended."""
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], DEADLINE)[0], "a process lives on"
        os.close(pidfd)


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[str]]:
    """Return a process that leads a session of its own and has descendants."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def noted(pid: int, *, leads: bool = False) -> Process:
    stat = read_stat(pid)
    assert stat is not None
    return Process(pid, stat.start, leads)


def descendants(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(process.stdout.readline()), int(process.stdout.readline())]


def test_it_ends_a_process_with_children_and_orphans_of_its_session(leader: subprocess.Popen[str]) -> None:
    pids = [leader.pid, *descendants(leader)]
    pidfds = [os.pidfd_open(pid) for pid in pids]
    assert end([noted(leader.pid, leads=True)], MARK) == (sorted(pids), [])
    wait_gone(*pidfds)


def test_it_ends_what_is_left_of_a_session_whose_leader_has_gone(leader: subprocess.Popen[str]) -> None:
    orphan, child = descendants(leader)
    process = noted(leader.pid, leads=True)
    leader.kill()
    leader.wait()
    pidfds = [os.pidfd_open(orphan), os.pidfd_open(child)]
    assert end([process], MARK) == (sorted([orphan, child]), [])
    wait_gone(*pidfds)


def test_it_ends_what_has_the_hosts_mark_and_nothing_that_has_nearly_the_same() -> None:
    mark = {"INNKEEPER_GUARDED": "1-2"}
    ours = subprocess.Popen(["setsid", "sleep", "600"], env=mark)
    others = [
        subprocess.Popen(["sleep", "600"], env={"INNKEEPER_GUARDED": "1-22"}),
        subprocess.Popen(["sleep", "600"], env={"X": "INNKEEPER_GUARDED=1-2"}),
    ]
    try:
        assert end([], b"INNKEEPER_GUARDED=1-2") == ([ours.pid], [])
        assert ours.wait(DEADLINE) == -signal.SIGKILL
        assert [other.poll() for other in others] == [None, None]
    finally:
        for process in (ours, *others):
            process.kill()
            process.wait()


def test_it_spares_a_process_that_has_only_the_number(leader: subprocess.Popen[str]) -> None:
    descendants(leader)
    stranger = noted(leader.pid, leads=True)._replace(start=1)
    assert family([stranger], MARK) == {}
    assert end([stranger], MARK) == ([], [])
    assert not send(leader.pid, 1, signal.SIGKILL)
    assert leader.poll() is None


def test_it_counts_no_zombie_and_knows_when_there_is_no_process() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert family([noted(child)], MARK) == {}
    os.waitpid(child, 0)
    assert read_stat(child) is None
    assert not send(child, 0, signal.SIGKILL)


def test_it_tells_what_it_cannot_end(leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pids = sorted([leader.pid, descendants(leader)[1]])
    monkeypatch.setattr(guard_process, "send", lambda pid, start, number: False)
    assert end([noted(leader.pid)], MARK, seconds=0.05) == (pids, pids)


def test_the_name_of_a_process_cannot_lie_about_its_start(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 1 1 ("
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    try:
        stat = read_stat(process.pid)
        assert stat is not None
        assert stat.ppid == os.getpid()
        assert stat.state in "RSD"
    finally:
        process.kill()
        process.wait()


def test_notes_add_up_and_can_be_taken_back() -> None:
    notes = Notes()
    for note in (
        b"+pid 7 99 1",
        b"+pid 8 98 0",
        b"-pid 8",
        b"-pid 9",
        b"+path /a b",
        b"+path /c",
        b"-path /c",
        b"-path /d",
    ):
        notes.take(note)
    assert list(notes.processes.values()) == [Process(7, 99, leads=True)]
    assert list(notes.paths) == [b"/a b"]
    assert not notes.goodbye
    notes.take(b"bye")
    assert notes.goodbye


@pytest.mark.parametrize(
    "note", [b"", b"hello", b"+pid", b"+pid x 1 1", b"+pid 1 2", b"+pid 1 2 3", b"+pid 1 +2 1", b"-pid 1 2", b"-pid"]
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(ValueError, match=r"note|expected \d numbers"):
        Notes().take(note)


def test_notes_that_a_dead_host_had_sent_are_read() -> None:
    host = subprocess.Popen(["sleep", "600"])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(host.pid)
    notes = Notes()
    waiting = threading.Thread(target=wait_for_end, args=(notes, theirs, pidfd))
    with ours, theirs:
        waiting.start()
        for number in range(100):
            ours.send(b"+path /%d" % number)
        host.kill()
        waiting.join(DEADLINE)
        assert not waiting.is_alive()
    host.wait()
    os.close(pidfd)
    assert len(notes.paths) == 100
    assert not notes.goodbye


def test_a_closed_socket_without_goodbye_is_a_dead_host() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(os.getpid())
    notes = Notes()
    with theirs:
        ours.send(b"+path /x")
        ours.close()
        wait_for_end(notes, theirs, pidfd)
    os.close(pidfd)
    assert list(notes.paths) == [b"/x"]


def test_nothing_is_read_after_goodbye() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(os.getpid())
    notes = Notes()
    with ours, theirs:
        ours.send(b"bye")
        ours.send(b"+path /x")
        wait_for_end(notes, theirs, pidfd)
    os.close(pidfd)
    assert notes.goodbye
    assert notes.paths == {}


def test_files_sockets_and_directories_are_removed(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "x").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(folder)
    for path in (link, file, tmp_path / "missing"):
        remove(os.fsencode(path))
    assert folder.exists(), "a link is removed, not what it points to"
    remove(os.fsencode(folder))
    assert list(tmp_path.iterdir()) == []


def first_notes(*notes: bytes) -> int:
    """Return a file with what a guard knows from its start."""
    file = os.memfd_create("notes")
    os.write(file, b"".join(note + b"\0" for note in notes))
    os.lseek(file, 0, os.SEEK_SET)
    return file


@pytest.mark.parametrize(("last", "text"), [(b"bye", ""), (b"", "the host is gone, 0 processes")])
def test_the_process_cleans_unless_it_was_told_goodbye(tmp_path: Path, last: bytes, text: str) -> None:
    paths = [tmp_path / "a", tmp_path / "b\nc"]
    for path in paths:
        path.write_text("x")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handed = (theirs.detach(), os.pidfd_open(os.getpid()), first_notes(b"+path " + os.fsencode(paths[1])))
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", guard_process.__file__, *map(str, handed), os.fsdecode(MARK)],
        pass_fds=handed,
        stderr=subprocess.PIPE,
        text=True,
    )
    for descriptor in handed:
        os.close(descriptor)
    with ours:
        ours.send(b"+path " + os.fsencode(paths[0]))
        if last:
            ours.send(last)
            guard.wait(DEADLINE)
    _, errors = guard.communicate(timeout=DEADLINE)
    assert guard.returncode == 0
    assert text in errors
    assert [path.exists() for path in paths] == [bool(last)] * 2


def test_what_cannot_be_removed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host = os.pidfd_open(os.getpid())
    blocked = tmp_path / "file"
    blocked.write_text("x")
    ours.send(b"+path " + os.fsencode(blocked / "below"))
    ours.close()
    before = {number: signal.getsignal(number) for number in (2, 15, 1, 3, 13)}
    comm = Path("/proc/self/comm").read_text()
    try:
        assert guard_process.main([str(theirs.detach()), str(host), str(first_notes()), os.fsdecode(MARK)]) == 1
    finally:
        Path("/proc/self/comm").write_text(comm)
        os.close(host)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "Not a directory" in capsys.readouterr().err


def file_of(content: bytes) -> int:
    file = os.memfd_create("program")
    os.write(file, content)
    return file


def test_a_program_and_its_environment_are_read_from_wherever_the_file_stands() -> None:
    file = file_of(b"/bin/true\0A=1\0B=\0C=a=b\0")
    assert guard_process.read_program(file) == (b"/bin/true", {b"A": b"1", b"B": b"", b"C": b"a=b"})
    os.close(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"/bin/true",
        b"true\0",
        b"/bin/true\0A\0",
        b"/bin/true\0=1\0",
        b"/bin/true\0A=1",
        b"/bin/true\0A=1\0A=2\0",
        b"/bin/true\0" + b"x" * (3 << 20) + b"=\0",
    ],
)
def test_what_is_no_program_is_refused_and_what_came_with_it_is_closed(content: bytes) -> None:
    handed = [file_of(content), os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)]
    helpers = guard_process.Helpers(Notes())
    with pytest.raises(ValueError, match=r"program|variable|absolute path"):
        helpers.spawn(1, handed)
    for descriptor in handed:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_a_helper_needs_its_three_descriptors(number: int) -> None:
    handed = [os.open("/dev/null", os.O_RDONLY) for _ in range(number)]
    with pytest.raises(ValueError, match="unpack"):
        guard_process.Helpers(Notes()).spawn(1, handed)


def test_a_host_that_does_not_listen_is_told_later() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helpers = guard_process.Helpers(Notes())
    answers = [b"ended %d 0" % number for number in range(5000)]
    helpers.answers = [(answer, -1) for answer in answers]
    with ours, theirs:
        helpers.tell(theirs)
        assert helpers.answers, "its socket holds everything"
        heard: list[bytes] = []
        while len(heard) < len(answers):
            heard.append(ours.recv(100))
            helpers.tell(theirs)
    assert heard == answers


def test_answers_to_a_host_that_is_gone_are_dropped() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    helpers = guard_process.Helpers(Notes())
    helpers.answers = [(b"ended 1 0", -1), (b"ended 2 0", os.open("/dev/null", os.O_RDONLY))]
    with theirs:
        helpers.tell(theirs)
    assert helpers.answers == []

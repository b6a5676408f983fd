"""One host per directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from innkeeper.locks import HostLock
from innkeeper_sdk.errors import ConflictError, HostError

HOLDER = """
import sys, pathlib
from innkeeper.locks import HostLock
lock = HostLock(pathlib.Path(sys.argv[1]), {"name": "first"})
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_host_is_told_which_process_has_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError, match=rf"process {holder.pid} \(first\)") as caught:
            HostLock(tmp_path, {"name": "second"})
        assert caught.value.path == str(tmp_path)
        holder.kill()
    HostLock(tmp_path, {"name": "second"}).release()


def test_a_released_lock_is_free_and_its_file_stays(tmp_path: Path) -> None:
    lock = HostLock(tmp_path, {})
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        HostLock(tmp_path, {})
    lock.release()
    lock.release()
    assert lock.path.exists()
    HostLock(tmp_path, {}).release()


@pytest.mark.parametrize("text", ["", "no json", "[1]"])
def test_a_holder_that_has_not_said_who_it_is_is_unknown(tmp_path: Path, text: str) -> None:
    lock = HostLock(tmp_path, {})
    lock.path.write_text(text)
    with pytest.raises(ConflictError, match="process unknown"):
        HostLock(tmp_path, {})
    lock.release()


def test_a_lock_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "host.lock").symlink_to("elsewhere")
    with pytest.raises(HostError, match="cannot be opened") as caught:
        HostLock(tmp_path, {})
    assert caught.value.path == str(tmp_path / "host.lock")
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_cannot_be_taken_is_said_and_its_file_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, _: int) -> None:
        opened.append(file)
        raise OSError(37, "No locks available")

    opened: list[int] = []
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(HostError, match="cannot be taken: No locks available"):
        HostLock(tmp_path, {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    lock = HostLock(tmp_path, {})
    with subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        lock.release()
        HostLock(tmp_path, {}).release()
        child.kill()

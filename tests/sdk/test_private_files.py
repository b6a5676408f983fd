"""Private files: whole or not at all, and nobody else's."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from innkeeper_sdk.errors import ConflictError, HostError, VerificationError
from innkeeper_sdk.private_files import (
    create,
    locked,
    make_directory,
    private_directory,
    read_private,
    replace,
    take_lock,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "above" / "own"
    assert private_directory(path, make=True)
    return path


def test_directories_are_made_with_0700_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_directory(tmp_path / "a" / "b", make=True)
        with locked(tmp_path / "a" / "b"):
            replace(tmp_path / "a" / "b" / "file", b"x")
    finally:
        os.umask(before)
    for path, mode in (("a", 0o700), ("a/b", 0o700), ("a/b/file", 0o600), ("a/b/lock", 0o600)):
        assert (tmp_path / path).stat().st_mode & 0o777 == mode


def test_a_missing_directory_is_missing(tmp_path: Path) -> None:
    assert not private_directory(tmp_path / "none", make=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o704, 0o755, 0o777])
def test_a_directory_that_is_open_to_others_is_refused_and_not_changed(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(VerificationError, match="open to others"):
        private_directory(folder, make=True)
    assert folder.stat().st_mode & 0o777 == mode


def test_a_link_or_a_file_is_no_directory(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "file").touch(0o600)
    for name in ("link", "file"):
        with pytest.raises(VerificationError, match="is no directory"):
            private_directory(tmp_path / name, make=False)


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_private(folder / "file", limit=10) is None
    for content in (b"one", b"", b"0123456789"):
        replace(folder / "file", content)
        assert read_private(folder / "file", limit=10) == content
    assert sorted(path.name for path in folder.iterdir()) == ["file"]


@pytest.mark.parametrize("mode", [0o601, 0o640, 0o604, 0o666])
def test_a_file_that_is_open_to_others_is_refused(folder: Path, mode: int) -> None:
    replace(folder / "file", b"x")
    (folder / "file").chmod(mode)
    with pytest.raises(VerificationError, match="open to others"):
        read_private(folder / "file", limit=10)


def test_a_link_a_pipe_and_a_directory_are_no_files(folder: Path) -> None:
    replace(folder / "file", b"x")
    (folder / "link").symlink_to("file")
    os.mkfifo(folder / "pipe", 0o600)
    (folder / "folder").mkdir(0o700)
    for name, said in (("link", "cannot be used"), ("pipe", "no plain file"), ("folder", "no plain file")):
        with pytest.raises(HostError, match=said):
            read_private(folder / name, limit=10)


def test_a_file_over_the_limit_is_refused(folder: Path) -> None:
    replace(folder / "file", b"x" * 11)
    with pytest.raises(VerificationError, match="too large"):
        read_private(folder / "file", limit=10)


def test_another_users_file_is_refused(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    replace(folder / "file", b"x")
    os.chown(folder / "file", 65534, -1)
    with pytest.raises(VerificationError, match="another user"):
        read_private(folder / "file", limit=10)


def test_what_a_killed_writer_left_is_no_hindrance(folder: Path) -> None:
    (folder / ".file.new").write_bytes(b"half")
    (folder / ".made.new").mkdir()
    (folder / ".made.new" / "half").touch()
    replace(folder / "file", b"whole")
    make_directory(folder / "made", {"one": b"1", "two": b"2"})
    assert read_private(folder / "file", limit=10) == b"whole"
    assert {path.name: path.read_bytes() for path in (folder / "made").iterdir()} == {"one": b"1", "two": b"2"}


def test_what_is_created_is_never_replaced(folder: Path) -> None:
    create(folder / "file", b"first")
    with pytest.raises(HostError, match="File exists"):
        create(folder / "file", b"second")
    assert read_private(folder / "file", limit=10) == b"first"
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert ((folder / "file").stat().st_mode & 0o777, (folder / "file").stat().st_nlink) == (0o600, 1)


@pytest.mark.parametrize("write", [create, replace])
def test_a_full_disk_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(HostError, match="No space left"):
            write(folder / "file", b"x")
    assert list(folder.iterdir()) == []


def test_errors_call_it_what_the_caller_does(folder: Path) -> None:
    replace(folder / "file", b"x" * 11)
    with pytest.raises(VerificationError, match="the list is too large") as caught:
        read_private(folder / "file", limit=10, what="the list")
    assert caught.value.path == str(folder / "file")
    (folder / "file").chmod(0o644)
    with pytest.raises(VerificationError, match="the list is open to others"):
        read_private(folder / "file", limit=10, what="the list")
    with pytest.raises(HostError, match="the list cannot be used: File exists"):
        create(folder / "file", b"", what="the list")
    folder.chmod(0o755)
    with pytest.raises(VerificationError, match="the place is open to others"):
        private_directory(folder, make=False, what="the place")


def test_a_lock_that_another_one_holds_is_not_waited_for_unless_asked(folder: Path) -> None:
    with locked(folder), pytest.raises(ConflictError, match="in use"):
        take_lock(folder, wait=False)
    descriptor = take_lock(folder, wait=False)
    with pytest.raises(ConflictError, match="in use"):
        take_lock(folder, wait=False)
    os.close(descriptor)
    os.close(take_lock(folder, wait=True))


def test_a_lock_in_a_file_of_others_is_refused(folder: Path) -> None:
    with locked(folder):
        pass
    (folder / "lock").chmod(0o644)
    with pytest.raises(VerificationError, match="open to others"), locked(folder):
        pass
    (folder / "lock").unlink()
    (folder / "lock").symlink_to("elsewhere")
    with pytest.raises(HostError, match="cannot be used"), locked(folder):
        pass
    assert not (folder / "elsewhere").exists()


def test_a_directory_is_made_with_all_its_files_or_not_at_all(folder: Path) -> None:
    with pytest.raises(HostError):
        make_directory(folder / "made", {"one": b"1", "no/where": b"2"})
    assert not (folder / "made").exists()
    make_directory(folder / "made", {"one": b"1"})
    assert (folder / "made").stat().st_mode & 0o777 == 0o700
    assert (folder / "made" / "one").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be used"):
        replace(tmp_path / "none" / "file", b"x")


COUNT = """
import sys
from pathlib import Path
from innkeeper_sdk.private_files import locked, read_private, replace
path = Path(sys.argv[1])
for _ in range(15):
    with locked(path):
        number = int(read_private(path / "number", limit=20) or b"0")
        replace(path / "number", str(number + 1).encode())
"""


def test_processes_that_hold_the_lock_one_after_the_other_lose_nothing(folder: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(folder)]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert read_private(folder / "number", limit=20) == b"45"

"""The host's directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper.config.directories import ensure_private, private_fault
from innkeeper_sdk.errors import ConfigError, ExitCode


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_it_makes_is_private_all_the_way_down(tmp_path: Path, open_umask: None) -> None:
    path = tmp_path / "a" / "b" / "c"
    assert ensure_private(path, what="data directory") == path
    assert [mode(folder) for folder in (path, path.parent, path.parent.parent)] == [0o700] * 3


def test_it_can_be_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    ensure_private(path, what="data directory")
    ensure_private(path, what="data directory")
    assert mode(path) == 0o700


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o720, 0o702, 0o777, 0o1777])
def test_one_that_others_can_write_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(bits)
    with pytest.raises(ConfigError, match="can be written by others") as caught:
        ensure_private(path, what="runtime directory")
    assert caught.value.exit_code is ExitCode.CONFIG
    assert "the runtime directory" in str(caught.value)
    assert mode(path) == bits


def test_one_that_others_can_read_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(0o755)
    ensure_private(path, what="data directory")
    assert mode(path) == 0o755


def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    path = Path("/usr")
    if os.geteuid() == 0:
        path = tmp_path / "a"
        path.mkdir(mode=0o700)
        os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match=rf"belongs to user {path.stat().st_uid}"):
        ensure_private(path, what="runtime directory")


def test_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    with pytest.raises(ConfigError, match="is no directory"):
        ensure_private(path, what="data directory")
    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        ensure_private(path / "b", what="data directory")


def test_a_link_stands_in_only_where_it_may(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(real)
    ensure_private(link, what="data directory")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        ensure_private(link, what="runtime directory", follow=False)


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "missing")
    with pytest.raises(ConfigError):
        ensure_private(link, what="runtime directory", follow=False)
    assert not (tmp_path / "missing").exists()


def test_a_private_directory_has_no_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert private_fault(tmp_path.stat()) is None


def test_advice_changes_only_what_is_a_directory_of_this_user(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ConfigError) as refused:
        ensure_private(path, what="data directory")
    assert "chmod" not in str(refused.value)
    assert "name another one" in str(refused.value)

"""What a killed demonstration has left is removed, and nothing else ever is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper_demo import folders
from innkeeper_demo.folders import MARKER_NAME, make_folder, sweep
from innkeeper_sdk.errors import HostError


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the only directory for temporary ones; its path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setattr(folders, "_places", lambda: [name])
        yield Path(name)


@pytest.fixture
def abandoned() -> Path:
    folder, marker = make_folder()
    (folder / "data").mkdir()
    (folder / "data" / "innkeeper.db").touch()
    marker.close()
    return folder


def test_a_directory_in_use_stays() -> None:
    folder, marker = make_folder()
    with marker:
        assert sweep() == []
        assert folder.is_dir()
    assert sweep() == [folder]


def test_one_that_nobody_uses_is_removed(abandoned: Path) -> None:
    assert sweep() == [abandoned]
    assert not abandoned.exists()
    assert sweep() == []


def test_one_that_a_host_still_uses_stays_after_its_maker_is_gone() -> None:
    folder, marker = make_folder()
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[marker.fileno()]) as host:
        marker.close()
        assert sweep() == []
        assert host.stdin is not None
        host.stdin.write(b"\n")
        host.stdin.close()
        host.wait(10)
    assert sweep() == [folder]


def test_what_cannot_be_removed_keeps_its_mark_for_the_next_time(
    abandoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(folders.shutil, "rmtree", lambda *_, **__: None)
        sweep()
    assert (abandoned / "data").is_dir()
    assert sweep() == [abandoned]
    assert not abandoned.exists()


def test_what_has_no_mark_stays(place: Path, abandoned: Path) -> None:
    (abandoned / MARKER_NAME).write_text("another thing's\n")
    (place / "ik-nothing").mkdir()
    (place / "ik-file").touch()
    (place / "another").mkdir()
    assert sweep() == []
    assert len(list(place.iterdir())) == 4


def test_links_are_not_followed(place: Path, abandoned: Path) -> None:
    elsewhere = abandoned.rename(place / "elsewhere")
    (place / "ik-link").symlink_to(elsewhere)
    (place / "ik-linked").mkdir()
    (place / "ik-linked" / MARKER_NAME).symlink_to(elsewhere / MARKER_NAME)
    assert sweep() == []
    assert elsewhere.is_dir()
    assert (place / "ik-linked").is_dir()


def test_a_pipe_in_the_place_of_a_marker_blocks_nothing(place: Path) -> None:
    (place / "ik-pipe").mkdir()
    os.mkfifo(place / "ik-pipe" / MARKER_NAME)
    assert sweep() == []


def test_what_is_another_users_stays(abandoned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert sweep() == []
    assert abandoned.is_dir()


def test_a_place_too_deep_for_sockets_is_not_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = place / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(folders, "_places", lambda: [str(deep)])
    with pytest.raises(HostError, match="TMPDIR"):
        make_folder()

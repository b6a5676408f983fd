"""A host for the time of one command, when it does not come to be."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper.cli import ephemeral
from innkeeper.cli.ephemeral import EphemeralHost, ephemeral_settings
from innkeeper.cli.options import Invocation
from innkeeper_sdk.control_socket import SOCKET_NAME, SOCKET_PATH_LIMIT
from innkeeper_sdk.errors import HostError


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return where temporary directories are made."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def as_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def start() -> None:
    with EphemeralHost(Invocation()):
        pytest.fail("it started")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo oh no >&2; exit 3", r"ended before it was ready; its last words:\noh no"),
        ("exit 3", r"ended before it was ready$"),
        ("exec sleep 600", r"is not ready after 0 s"),
    ],
)
def test_a_host_that_does_not_become_ready_is_told_and_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, temporary: Path, script: str, expected: str
) -> None:
    monkeypatch.setattr(ephemeral, "_START_SECONDS", 0.3)
    monkeypatch.setattr(ephemeral, "_STOP_SECONDS", 0.05)
    as_interpreter(monkeypatch, tmp_path, script)
    with pytest.raises(HostError, match=expected):
        start()
    assert list(temporary.iterdir()) == []


def test_an_interpreter_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(HostError, match="cannot be started"):
        start()
    assert list(temporary.iterdir()) == []


def test_a_temporary_directory_that_is_too_deep_for_a_socket_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = ephemeral._folder()
    try:
        assert not folder.is_relative_to(deep)
        settings = ephemeral_settings(folder)
        path = f"{settings['runtime_dir']}/{settings['name']}/{SOCKET_NAME}"
        assert len(os.fsencode(path)) <= SOCKET_PATH_LIMIT
    finally:
        folder.rmdir()


def test_without_any_place_for_a_socket_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(HostError, match="TMPDIR"):
        ephemeral._folder()

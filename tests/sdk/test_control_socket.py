"""The control socket: where it may lie and who listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper_sdk import control_socket
from innkeeper_sdk.control_socket import SOCKET_PATH_LIMIT, check_socket_path, grpc_target, probe
from innkeeper_sdk.errors import ConfigError, ExitCode, HostUnreachableError, VerificationError


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def listener(folder: Path) -> Iterator[Path]:
    """Return a socket on which this process listens."""
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
        sock.listen()
        yield path


def test_the_longest_path_that_the_kernel_binds_is_accepted(folder: Path) -> None:
    path = folder / ("x" * (SOCKET_PATH_LIMIT - len(os.fsencode(folder)) - 1))
    check_socket_path(path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))


def test_one_byte_more_is_refused_by_us_before_the_kernel_does(folder: Path) -> None:
    path = folder / ("x" * (SOCKET_PATH_LIMIT - len(os.fsencode(folder))))
    with pytest.raises(ConfigError, match="at most 107 bytes, found 108") as caught:
        probe(path)
    assert caught.value.path == str(path)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
        sock.bind(os.fspath(path))


def test_bytes_count_and_not_characters(folder: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        check_socket_path(folder / ("é" * 50))


def test_a_listener_is_found_with_its_process_and_user(listener: Path) -> None:
    peer = probe(listener)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())


def test_no_socket_is_no_host(folder: Path) -> None:
    with pytest.raises(HostUnreachableError, match=r"no host is running.*innkeeper run") as caught:
        probe(folder / "control.sock")
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_a_socket_that_was_left_is_no_host(folder: Path) -> None:
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
    with pytest.raises(HostUnreachableError, match="its socket was left"):
        probe(path)


def test_a_file_in_its_place_is_no_host(folder: Path) -> None:
    path = folder / "control.sock"
    path.write_text("")
    with pytest.raises(HostUnreachableError, match="its socket was left"):
        probe(path)


def test_a_path_through_a_file_is_no_host(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(HostUnreachableError, match="Not a directory"):
        probe(folder / "file" / "control.sock")


def test_a_full_backlog_is_a_host_that_does_not_accept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_PROBE_SECONDS", 0.05)
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as waiting:
        sock.bind(os.fspath(path))
        sock.listen(0)
        waiting.connect(os.fspath(path))
        with pytest.raises(HostUnreachableError, match="does not accept connections"):
            probe(path)


def test_the_host_of_another_user_is_not_spoken_to(listener: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(VerificationError, match="belongs to another user") as caught:
        probe(listener)
    assert caught.value.exit_code is ExitCode.VERIFICATION


def test_root_may_speak_to_everybodys_host(listener: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert probe(listener).uid == os.getuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_socket_that_this_user_may_not_use_says_so(listener: Path) -> None:
    listener.parent.chmod(0o700)
    code = (
        "import os, sys, pathlib; from innkeeper_sdk.control_socket import probe; os.setuid(65534)\n"
        "try: probe(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, listener], capture_output=True, text=True, check=True)
    assert "HostUnreachableError" in done.stdout
    assert "may not be used by this user" in done.stdout


def test_targets_are_escaped() -> None:
    assert grpc_target(Path("/run/a b%c?d#e/é")) == "unix:/run/a%20b%25c%3Fd%23e/%C3%A9"

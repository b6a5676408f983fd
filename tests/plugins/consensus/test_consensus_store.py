"""Signing keys and the number of the last report, on a real disk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from innkeeper_consensus.store import SigningStore
from innkeeper_sdk.errors import ConflictError, HostError, InnkeeperError, VerificationError

HOLDER = """
import sys
from pathlib import Path
from innkeeper_consensus.store import SigningStore
store = SigningStore(Path(sys.argv[1]))
store.open()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "signing"


def opened(directory: Path) -> SigningStore:
    store = SigningStore(directory)
    store.open()
    return store


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def test_nothing_is_made_before_it_is_opened(directory: Path) -> None:
    SigningStore(directory).close()
    assert not directory.exists()


def test_files_are_this_users_alone(directory: Path) -> None:
    before = os.umask(0)
    try:
        store = opened(directory)
        store.secret("evm")
        store.next_number()
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes(directory) == {"evm.key": 0o600, "sequence": 0o600, "lock": 0o600}


def test_a_key_is_made_once_and_stays(directory: Path) -> None:
    store = opened(directory)
    secret, new = store.secret("evm")
    assert (len(secret), new) == (32, True)
    assert store.secret("evm") == (secret, False)
    other, _ = store.secret("aptos")
    assert other != secret
    store.close()
    assert opened(directory).secret("evm") == (secret, False)


def test_numbers_grow_by_one_across_restarts(directory: Path) -> None:
    numbers = []
    for _ in range(2):
        store = opened(directory)
        numbers += [store.next_number() for _ in range(2)]
        store.close()
    assert numbers == [1, 2, 3, 4]


def test_a_file_that_a_crash_left_half_written_is_of_no_account(directory: Path) -> None:
    store = opened(directory)
    store.next_number()
    (directory / ".sequence.new").write_bytes(b"9")
    (directory / ".evm.key.new").write_bytes(b"")
    assert store.next_number() == 2
    assert store.secret("evm")[1]
    assert sorted(modes(directory)) == ["evm.key", "lock", "sequence"]


def test_a_lost_number_is_an_error_and_no_key_is_made_beside_it(directory: Path) -> None:
    store = opened(directory)
    store.secret("evm")
    (directory / "sequence").unlink()
    for act in (store.next_number, lambda: store.secret("aptos")):
        with pytest.raises(VerificationError, match="the number of the last report is lost"):
            act()
    assert sorted(modes(directory)) == ["evm.key", "lock"]


@pytest.mark.parametrize("content", [b"", b"x\n", b"-1\n", b"1", b"1\n2\n", b"1" * 21 + b"\n"])
def test_a_damaged_number_is_an_error(directory: Path, content: bytes) -> None:
    store = opened(directory)
    store.next_number()
    (directory / "sequence").write_bytes(content)
    with pytest.raises(VerificationError, match="the number of the last report is damaged"):
        store.next_number()
    assert (directory / "sequence").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"00" * 32, b"zz" * 32 + b"\n", b"00" * 33 + b"\n"])
def test_a_damaged_key_is_an_error_that_does_not_repeat_it(directory: Path, content: bytes) -> None:
    store = opened(directory)
    store.secret("evm")
    (directory / "evm.key").write_bytes(content)
    with pytest.raises(VerificationError, match="a signing key is damaged") as caught:
        store.secret("evm")
    assert "actual" not in caught.value.to_dict()
    assert (directory / "evm.key").read_bytes() == content


def test_a_file_that_is_too_large_for_a_key_is_an_error(directory: Path) -> None:
    store = opened(directory)
    store.secret("evm")
    (directory / "evm.key").write_bytes(bytes(5000))
    with pytest.raises(VerificationError, match="a file of the signing keys is too large"):
        store.secret("evm")


def test_a_directory_that_others_can_reach_is_refused(directory: Path) -> None:
    opened(directory).close()
    directory.chmod(0o755)
    with pytest.raises(VerificationError, match="the directory of the signing keys is open to others"):
        SigningStore(directory).open()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_a_key_that_others_can_reach_is_refused(directory: Path, mode: int) -> None:
    store = opened(directory)
    store.secret("evm")
    (directory / "evm.key").chmod(mode)
    with pytest.raises(VerificationError, match="run chmod 600"):
        store.secret("evm")


def test_a_link_or_a_pipe_is_no_key(directory: Path, tmp_path: Path) -> None:
    store = opened(directory)
    store.next_number()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"00" * 32 + b"\n")
    elsewhere.chmod(0o600)
    (directory / "evm.key").symlink_to(elsewhere)
    with pytest.raises(HostError, match="a file of the signing keys cannot be used"):
        store.secret("evm")
    os.mkfifo(directory / "aptos.key", 0o600)
    with pytest.raises(VerificationError, match="expected a regular file"):
        store.secret("aptos")


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostError, match="the directory of the signing keys cannot be used: Not a directory"):
        SigningStore(tmp_path / "file" / "signing").open()


def test_a_full_disk_takes_no_number(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(directory)
    store.next_number()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(HostError, match="No space left"):
            store.next_number()
    assert store.next_number() == 2


def test_one_process_at_a_time_has_the_keys(directory: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        store = SigningStore(directory)
        with pytest.raises(ConflictError, match="in use by another process"):
            store.open()
        with pytest.raises(ConflictError):
            store.open()
    finally:
        holder.communicate(timeout=30)
    store.open()
    store.open()
    assert store.next_number() == 1
    store.close()
    store.close()


def test_a_closed_store_lets_the_next_one_in(directory: Path) -> None:
    first = opened(directory)
    with pytest.raises(InnkeeperError):
        SigningStore(directory).open()
    first.close()
    opened(directory).close()

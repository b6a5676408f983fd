"""The host's key: made once, private, and never replaced."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from innkeeper import keys
from innkeeper.keys import KEY_NAME, HostKeyError, SigningKey, load_or_create
from innkeeper_sdk.signing import peer_id_payload


def test_a_key_is_made_once_and_only_for_this_user(tmp_path: Path) -> None:
    made = load_or_create(tmp_path)
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_NAME]
    content = (tmp_path / KEY_NAME).read_bytes()
    assert load_or_create(tmp_path).public_key == made.public_key
    assert (tmp_path / KEY_NAME).read_bytes() == content


def test_no_umask_makes_it_wider(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600


def test_two_directories_have_two_keys(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert load_or_create(tmp_path / "one").public_key != load_or_create(tmp_path / "two").public_key


@pytest.mark.parametrize("message", [b"", b"message", b"m" * 1024, b"m" * 5000])
def test_it_signs_the_message_under_its_prefix_and_nothing_else(tmp_path: Path, message: bytes) -> None:
    key = load_or_create(tmp_path)
    public = Ed25519PublicKey.from_public_bytes(key.public_key)
    signature = key.sign("grant/1", message)
    assert len(signature) == 64
    public.verify(signature, peer_id_payload("grant/1", message))
    for other in (message, peer_id_payload("grant/2", message)):
        with pytest.raises(InvalidSignature):
            public.verify(signature, other)


def test_it_signs_nothing_without_a_prefix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prefix"):
        load_or_create(tmp_path).sign("", b"message")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o601, 0o660, 0o610])
def test_a_key_that_others_may_use_is_refused_and_left_alone(tmp_path: Path, mode: int) -> None:
    load_or_create(tmp_path)
    path = tmp_path / KEY_NAME
    content = path.read_bytes()
    path.chmod(mode)
    with pytest.raises(HostKeyError, match="the host's key is open to others") as caught:
        load_or_create(tmp_path)
    assert (caught.value.actual, caught.value.path) == (f"mode {mode:03o}", str(path))
    assert "chmod 600" in str(caught.value)
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == mode


def other_kind() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


DAMAGED = {
    "empty": b"",
    "half": b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw",
    "text": b"not a key",
    "binary": bytes(range(256)),
    "another kind": other_kind(),
    "encrypted": Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    ),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_key_is_refused_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_NAME
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(HostKeyError, match="is damaged") as caught:
        load_or_create(tmp_path)
    assert "restore it" in str(caught.value)
    assert caught.value.__cause__ is None
    assert path.read_bytes() == content


def test_a_file_that_is_too_large_for_a_key_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / KEY_NAME
    path.write_bytes(bytes(5000))
    path.chmod(0o600)
    with pytest.raises(HostKeyError, match="the host's key is too large"):
        load_or_create(tmp_path)
    assert path.read_bytes() == bytes(5000)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    load_or_create(elsewhere)
    path = tmp_path / KEY_NAME
    path.symlink_to(elsewhere / KEY_NAME)
    with pytest.raises(HostKeyError, match="cannot be used"):
        load_or_create(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(HostKeyError, match="cannot be used"):
        load_or_create(tmp_path)
    assert not (tmp_path / "nowhere").exists()
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(HostKeyError, match="no plain file"):
        load_or_create(tmp_path)
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(HostKeyError, match="no plain file"):
        load_or_create(tmp_path)


def test_a_crash_while_it_is_made_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(HostKeyError, match="No space left"):
            load_or_create(tmp_path)
    assert list(tmp_path.iterdir()) == []
    load_or_create(tmp_path)


def test_a_key_that_came_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_or_create(tmp_path)
    monkeypatch.setattr(keys, "read_private", lambda *_, **__: None)
    with pytest.raises(HostKeyError, match="File exists"):
        load_or_create(tmp_path)
    monkeypatch.undo()
    assert load_or_create(tmp_path).public_key == first.public_key
    assert len(list(tmp_path.iterdir())) == 1


def test_it_shows_no_secret_and_goes_nowhere(tmp_path: Path) -> None:
    key = load_or_create(tmp_path)
    assert repr(key) == f"<host key {key.public_key.hex()}>"
    assert not hasattr(key, "__dict__")
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(key)
    assert isinstance(key, SigningKey)

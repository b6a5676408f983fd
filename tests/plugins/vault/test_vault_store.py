"""The secrets at rest: encrypted, whole, private, and shared between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyrage
import pytest

from innkeeper_confidential_workflows.protocol import MAX_SECRET_BYTES, MAX_SECRETS, SecretName, cbor
from innkeeper_sdk.errors import HostError, VerificationError
from innkeeper_vault import records
from innkeeper_vault.errors import SecretInvalidError, SecretNotFoundError, VaultDamagedError, VaultFullError
from innkeeper_vault.keys import IDENTITY_NAME, SIGNING_NAME, VaultKeys
from innkeeper_vault.store import FILE_NAME, STORE_NAME, SecretStore
from tests.plugins.confidential_workflows.protocol.protocol_world import Clock

OWNER = "0f" * 20
OTHER = "1f" * 20
NAME = SecretName("main", "KEY")
CANARY = "canary-81b3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "providers" / "vault"


@pytest.fixture
def store(folder: Path) -> SecretStore:
    return SecretStore(folder, clock=Clock())


def value_of(store: SecretStore, name: SecretName = NAME, owner: str = OWNER) -> str | None:
    (found,) = store.get(owner, [name])
    return None if found is None else found.value


def rewrite(folder: Path, content: bytes) -> None:
    """Put another content into the file, encrypted as the vault does."""
    keys = VaultKeys.load(folder / STORE_NAME)
    (folder / STORE_NAME / FILE_NAME).write_bytes(pyrage.encrypt(content, [keys.identity.to_public()]))


def test_what_is_set_is_found_and_counted(store: SecretStore) -> None:
    assert store.set(OWNER, NAME, "one").version == 1
    entry = store.set(OWNER, NAME, "two ✓")
    assert (entry.version, entry.updated) == (2, Clock().now)
    (found,) = store.get(OWNER, [NAME])
    assert found is not None
    assert (found.value, found.version) == ("two ✓", 2)


def test_owner_namespace_and_key_all_count(store: SecretStore) -> None:
    store.set(OWNER, NAME, "one")
    assert value_of(store, owner=OTHER) is None
    assert store.get(OWNER, [SecretName("other", "KEY"), NAME, SecretName("main", "key")])[0::2] == [None, None]


def test_another_store_of_the_same_directory_sees_it(store: SecretStore, folder: Path) -> None:
    with SecretStore(folder) as other:
        assert other.entries() == []
        store.set(OWNER, NAME, "one")
        assert value_of(other) == "one"
        store.set(OWNER, NAME, "two")
        store.set(OWNER, NAME, "three")
        assert value_of(other) == "three"
        assert other.open().public_key == store.open().public_key


def test_deleting_deletes_one(store: SecretStore) -> None:
    store.set(OWNER, NAME, "one")
    store.set(OWNER, SecretName("other", "KEY"), "two")
    store.delete(OWNER, NAME)
    assert value_of(store) is None
    assert [entry.namespace for entry in store.entries()] == ["other"]
    with pytest.raises(SecretNotFoundError):
        store.delete(OWNER, NAME)


def test_entries_are_sorted_and_of_one_owner_if_asked(store: SecretStore) -> None:
    for owner, name in ((OTHER, NAME), (OWNER, SecretName("b", "A")), (OWNER, SecretName("a", "Z"))):
        store.set(owner, name, "x")
    assert [(e.owner, e.namespace, e.key) for e in store.entries()] == [
        (OWNER, "a", "Z"),
        (OWNER, "b", "A"),
        (OTHER, "main", "KEY"),
    ]
    assert [entry.key for entry in store.entries(OTHER)] == ["KEY"]
    assert [entry.key for entry in store.entries(namespace="b")] == ["A"]
    assert store.entries(OTHER, "b") == []


def test_asking_makes_nothing(store: SecretStore, folder: Path) -> None:
    assert store.entries() == []
    with pytest.raises(SecretNotFoundError):
        store.delete(OWNER, NAME)
    assert not folder.exists()


def test_no_byte_of_a_value_is_on_the_disk_or_in_a_repr(store: SecretStore, folder: Path) -> None:
    store.set(OWNER, NAME, CANARY)
    store.set(OWNER, SecretName("main", "LONG"), CANARY * 1000)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        content = path.read_bytes()
        assert CANARY.encode() not in content
        assert b"LONG" not in content
        assert OWNER.encode() not in content
    shown = f"{store.get(OWNER, [NAME])!r} {store.entries()!r} {store.open()!r} {store!r} {vars(store)!r}"
    assert CANARY not in shown
    assert "AGE-SECRET-KEY" not in shown


def test_directories_are_0700_and_files_0600(store: SecretStore, folder: Path) -> None:
    before = os.umask(0)
    try:
        store.set(OWNER, NAME, "one")
    finally:
        os.umask(before)
    for path in (folder.parent, folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    "name", [".", "store", f"store/{FILE_NAME}", f"store/{IDENTITY_NAME}", f"store/{SIGNING_NAME}"]
)
def test_what_is_open_to_others_is_refused_and_left_alone(store: SecretStore, folder: Path, name: str) -> None:
    store.set(OWNER, NAME, "one")
    store.close()
    path = folder / name
    mode = path.stat().st_mode | 0o040
    path.chmod(mode)
    with pytest.raises(VerificationError, match="open to others"):
        store.get(OWNER, [NAME])
    with pytest.raises(VerificationError, match="open to others"):
        store.set(OWNER, NAME, "two")
    assert path.stat().st_mode == mode


@pytest.mark.parametrize("name", [FILE_NAME, IDENTITY_NAME, SIGNING_NAME])
def test_what_is_missing_is_damage_and_not_made_anew(store: SecretStore, folder: Path, name: str) -> None:
    store.set(OWNER, NAME, "one")
    store.close()
    path = folder / STORE_NAME / name
    kept = path.read_bytes()
    path.unlink()
    for act in (store.open, store.entries, lambda: store.set(OWNER, NAME, "two"), lambda: store.delete(OWNER, NAME)):
        with pytest.raises(VaultDamagedError, match="missing"):
            act()
    assert not path.exists()
    path.write_bytes(kept)
    path.chmod(0o600)
    assert value_of(store) == "one"


@pytest.mark.parametrize("name", [FILE_NAME, IDENTITY_NAME, SIGNING_NAME])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer"])
def test_what_is_damaged_is_an_error_and_stays_as_it_is(
    store: SecretStore, folder: Path, name: str, damage: str
) -> None:
    store.set(OWNER, NAME, CANARY)
    store.close()
    path = folder / STORE_NAME / name
    content = path.read_bytes()
    flipped = content[:-2] + bytes([content[-2] ^ 0x80]) + content[-1:]
    damaged = {"cut": content[:-5], "flipped": flipped, "empty": b"", "longer": content + b"x"}[damage]
    path.write_bytes(damaged)
    for act in (store.open, store.entries, lambda: store.set(OWNER, NAME, "two")):
        with pytest.raises(VaultDamagedError) as caught:
            act()
        error = caught.value
        assert content.decode("latin-1").strip() not in f"{error} {error!r} {error.__context__!r}"
        assert CANARY not in f"{error!r} {error.__context__!r}"
    assert path.read_bytes() == damaged


def test_the_key_of_another_vault_does_not_open_it(store: SecretStore, folder: Path) -> None:
    store.set(OWNER, NAME, "one")
    store.close()
    (folder / STORE_NAME / IDENTITY_NAME).write_bytes(VaultKeys.generate().files()[IDENTITY_NAME])
    with pytest.raises(VaultDamagedError, match="file is damaged"):
        store.open()


ROW = [OWNER, "main", "KEY", "value", 1, 1_700_000_000_000]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        cbor.encode({"v": 2, "secrets": []}),
        cbor.encode({"v": 1}),
        cbor.encode({"v": 1, "secrets": [], "more": 1}),
        cbor.encode({"v": 1, "secrets": {}}),
        cbor.encode({"v": 1, "secrets": [ROW[:-1]]}),
        cbor.encode({"v": 1, "secrets": [ROW, ROW]}),
        cbor.encode({"v": 1, "secrets": [["0F" * 20, *ROW[1:]]]}),
        cbor.encode({"v": 1, "secrets": [[OWNER, "", *ROW[2:]]]}),
        cbor.encode({"v": 1, "secrets": [[*ROW[:3], CANARY.encode(), 1, 1]]}),
        cbor.encode({"v": 1, "secrets": [[*ROW[:4], 0, 1]]}),
        cbor.encode({"v": 1, "secrets": [[*ROW[:5], 2**62]]}),
    ],
)
def test_a_content_in_another_form_is_damage(store: SecretStore, folder: Path, content: bytes) -> None:
    store.open()
    store.close()
    rewrite(folder, content)
    with pytest.raises(VaultDamagedError) as caught:
        store.open()
    assert CANARY not in f"{caught.value!r} {caught.value.__context__!r}"


def test_a_file_that_was_changed_in_its_place_is_read_again(store: SecretStore, folder: Path) -> None:
    store.open()
    rewrite(folder, cbor.encode({"v": 1, "secrets": [ROW]}))
    assert value_of(store) == "value"


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        ("0F" * 20, NAME, "x"),
        ("0x" + OWNER, NAME, "x"),
        ("", NAME, "x"),
        (OWNER, SecretName("", "KEY"), "x"),
        (OWNER, SecretName("main", ""), "x"),
        (OWNER, SecretName("main", "a" * 65), "x"),
        (OWNER, SecretName("main", "a\nb"), "x"),
        (OWNER, SecretName("main", "e\u0301"), "x"),
        (OWNER, NAME, ""),
        (OWNER, NAME, CANARY + "x" * MAX_SECRET_BYTES),
        (OWNER, NAME, CANARY + "\ud800"),
    ],
)
def test_what_cannot_be_stored_is_refused_without_showing_it(
    store: SecretStore, owner: str, name: SecretName, value: str
) -> None:
    with pytest.raises(SecretInvalidError) as caught:
        store.set(owner, name, value)
    assert CANARY not in f"{caught.value} {caught.value!r} {caught.value.__context__!r}"


def test_the_longest_value_fits_and_comes_back_exactly(store: SecretStore) -> None:
    value = "ä" * (MAX_SECRET_BYTES // 2 - 1) + "\n\x00"
    store.set(OWNER, NAME, value)
    assert value_of(store) == value


def test_an_owner_has_at_most_a_hundred(folder: Path, store: SecretStore) -> None:
    store.open()
    rows = [[OWNER, "main", f"{n:03}", "x", 1, 1] for n in range(MAX_SECRETS)]
    store.close()
    rewrite(folder, cbor.encode({"v": 1, "secrets": rows}))
    with pytest.raises(VaultFullError):
        store.set(OWNER, NAME, "x")
    assert store.set(OWNER, SecretName("main", "007"), "y").version == 2
    assert store.set(OTHER, NAME, "x").version == 1
    store.delete(OWNER, SecretName("main", "007"))
    assert store.set(OWNER, NAME, "x").version == 1


def test_a_full_vault_refuses_and_stays_as_it_is(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.set(OWNER, NAME, "one")
    monkeypatch.setattr(records, "MAX_CONTENT_BYTES", 200)
    with pytest.raises(VaultFullError):
        store.set(OWNER, SecretName("main", "LONG"), "x" * 200)
    assert value_of(store) == "one"


def test_a_directory_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError):
        SecretStore(tmp_path / "file" / "vault").set(OWNER, NAME, "x")


def test_a_writer_that_was_killed_half_way_is_no_hindrance(store: SecretStore, folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    (folder / f".{STORE_NAME}.new").mkdir(mode=0o700)
    (folder / f".{STORE_NAME}.new" / IDENTITY_NAME).write_bytes(b"half")
    store.set(OWNER, NAME, "one")
    (folder / STORE_NAME / f".{FILE_NAME}.new").write_bytes(b"half")
    store.set(OWNER, NAME, "two")
    assert value_of(store) == "two"


SET_MANY = """
import sys
from pathlib import Path
from innkeeper_confidential_workflows.protocol import SecretName
from innkeeper_vault.store import SecretStore
with SecretStore(Path(sys.argv[1])) as store:
    for number in range(6):
        store.set("0f" * 20, SecretName("main", f"{sys.argv[2]}-{number}"), "value")
        store.set("0f" * 20, SecretName("main", "shared"), sys.argv[2])
"""


def test_processes_that_set_secrets_at_once_lose_none_and_make_one_vault(store: SecretStore, folder: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SET_MANY, str(folder), str(n)]) for n in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    entries = {entry.key: entry.version for entry in store.entries(OWNER)}
    assert len(entries) == 4 * 6 + 1
    assert entries["shared"] == 4 * 6


def test_threads_that_set_and_read_at_once_see_whole_files(store: SecretStore) -> None:
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for turn in range(5):
            store.set(OWNER, SecretName("main", f"{number}-{turn}"), "value")
            assert value_of(store, SecretName("main", f"{number}-{turn}")) == "value"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(store.entries()) == 20


def test_closing_lets_go_of_every_file(store: SecretStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        store.set(OWNER, NAME, "x")
        store.get(OWNER, [NAME])
    assert len(os.listdir("/proc/self/fd")) == before + 1
    store.close()
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before

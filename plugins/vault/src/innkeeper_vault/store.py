"""The secrets at rest: one file, encrypted with age to the vault's own identity.

Rules of this module:

1. Keys and file are made together, all or nothing. From then on each of them must be there.
2. The file is replaced whole, under a lock that every writing process takes. Readers take none: they see the one file
   or the other.
3. What was read is kept until the file is another one or was changed. The file that it came from stays open, so that no
   other file can have its number.
4. A damaged file is an error and stays as it is. No error, repr or log holds a value.
5. Everything here blocks; it is safe for threads.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import pyrage  # type: ignore[import-untyped]  # it has no types
from attrs import field, frozen

from innkeeper_confidential_workflows.protocol.bodies import MAX_SECRETS, SecretName
from innkeeper_sdk.private_files import locked, make_directory, open_private, private_directory, read_all, replace
from innkeeper_vault import records
from innkeeper_vault.errors import SecretNotFoundError, VaultDamagedError, VaultFullError
from innkeeper_vault.keys import RESTORE, VaultKeys
from innkeeper_vault.records import SecretEntry, SecretKey, Secrets, StoredSecret, check_key, check_value

__all__ = ["FILE_NAME", "STORE_NAME", "SecretStore"]

# Below the provider's own directory.
STORE_NAME: Final = "store"
FILE_NAME: Final = "secrets.age"

# age adds a header, and 16 bytes for each 64 KiB.
_MAX_FILE_BYTES: Final = records.MAX_CONTENT_BYTES + 64 * 1024

_T = TypeVar("_T")


@frozen
class _Snapshot:
    """What a file held.

    Attributes:
        descriptor: Of the file, open; see rule 3.
        file: Which file that was, and which state of it.
        secrets: What was in it.
    """

    descriptor: int
    file: tuple[int, ...]
    secrets: Secrets = field(repr=False)


class SecretStore:
    """The vault's secrets and keys, in a directory.

    Args:
        directory: The provider's own directory.
        clock: What time it is.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._base = directory
        self._directory = directory / STORE_NAME
        self._path = self._directory / FILE_NAME
        self._clock = clock
        self._keys: VaultKeys | None = None
        self._snapshot: _Snapshot | None = None
        self._threads = threading.RLock()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def open(self) -> VaultKeys:
        """Make the vault if there is none, and read it; idempotent.

        Returns:
            Its keys.

        Raises:
            VaultDamagedError: It is damaged.
            VerificationError: It is not this user's alone.
            HostError: It cannot be read or written.
        """
        with self._threads:
            keys = self._own_keys()
            self._read(keys)
            return keys

    def close(self) -> None:
        """Let go of what was read; idempotent."""
        with self._threads:
            snapshot, self._snapshot, self._keys = self._snapshot, None, None
            if snapshot is not None:
                os.close(snapshot.descriptor)

    def get(self, owner: str, names: Sequence[SecretName]) -> list[StoredSecret | None]:
        """Return secrets of an owner, in the order asked for; None for one that there is not.

        Args:
            owner: 40 hexadecimal digits.
            names: Which.

        Raises:
            VaultDamagedError: The vault is damaged; or as :meth:`open`.
        """
        secrets = self._current()
        return [secrets.get(SecretKey(owner, *name)) for name in names]

    def entries(self, owner: str | None = None, namespace: str | None = None) -> list[SecretEntry]:
        """Return what may be shown of the secrets, sorted.

        Nothing is made: where there is no vault, there are no secrets.

        Args:
            owner: Whose; None for everybody's.
            namespace: In which; None for all.

        Raises:
            VaultDamagedError: The vault is damaged; or as :meth:`open`.
        """
        if not self._exists():
            return []
        return [
            SecretEntry(*key, version=secret.version, updated=secret.updated)
            for key, secret in sorted(self._current().items())
            if owner in (None, key.owner) and namespace in (None, key.namespace)
        ]

    def set(self, owner: str, name: SecretName, value: str) -> SecretEntry:
        """Set a secret; its version is one more than that of what it replaces, else 1.

        Args:
            owner: 40 hexadecimal digits.
            name: Which.
            value: A text of 1 to 27,000 bytes in UTF-8.

        Returns:
            What may be shown of it.

        Raises:
            SecretInvalidError: One of them cannot be stored.
            VaultFullError: The owner has 100 secrets already, or the vault is full.
            VaultDamagedError: The vault is damaged; or as :meth:`open`.
        """
        key = check_key(owner, name)
        check_value(value)
        # Milliseconds are what is stored.
        updated = records.from_milliseconds(records.to_milliseconds(self._clock()))

        def change(secrets: dict[SecretKey, StoredSecret]) -> SecretEntry:
            before = secrets.get(key)
            if before is None and Counter(k.owner for k in secrets)[owner] >= MAX_SECRETS:
                raise VaultFullError(
                    f"the owner {owner} has {MAX_SECRETS} secrets, which is the most that one may have",
                    hint="delete one with `innkeeper secrets delete`",
                )
            secrets[key] = StoredSecret(value, before.version + 1 if before else 1, updated)
            return SecretEntry(*key, version=secrets[key].version, updated=updated)

        return self._change(change)

    def delete(self, owner: str, name: SecretName) -> None:
        """Delete a secret.

        Raises:
            SecretInvalidError: There can be no such secret.
            SecretNotFoundError: There is none.
            VaultDamagedError: The vault is damaged; or as :meth:`open`.
        """
        key = check_key(owner, name)
        missing = SecretNotFoundError(
            f"the owner {owner} has no secret {name.key} in namespace {name.namespace}",
            hint="`innkeeper secrets list` shows what there is",
        )

        def change(secrets: dict[SecretKey, StoredSecret]) -> None:
            if secrets.pop(key, None) is None:
                raise missing

        if not self._exists():
            raise missing
        self._change(change)

    def _current(self) -> Secrets:
        with self._threads:
            return self._read(self._own_keys())

    def _change(self, change: Callable[[dict[SecretKey, StoredSecret]], _T]) -> _T:
        with self._threads:
            keys = self._own_keys()
            with locked(self._base):
                # Read under the lock: what another process has set just now stays.
                secrets = dict(self._read(keys))
                result = change(secrets)
                replace(self._path, _sealed(secrets, keys))
            return result

    def _own_keys(self) -> VaultKeys:
        if self._keys is None:
            self._keys = self._load() or self._make()
        return self._keys

    def _exists(self) -> bool:
        return private_directory(self._base, make=False) and private_directory(self._directory, make=False)

    def _load(self) -> VaultKeys | None:
        return VaultKeys.load(self._directory) if self._exists() else None

    def _make(self) -> VaultKeys:
        private_directory(self._base, make=True)
        with locked(self._base):
            # Another process may have been first.
            keys = self._load()
            if keys is None:
                keys = VaultKeys.generate()
                make_directory(self._directory, {**keys.files(), FILE_NAME: _sealed({}, keys)})
        return keys

    def _read(self, keys: VaultKeys) -> Secrets:
        """Return what is in the file now."""
        descriptor = open_private(self._path)
        if descriptor is None:
            raise VaultDamagedError("the vault's file is missing", path=str(self._path), hint=RESTORE)
        try:
            found = os.fstat(descriptor)
            file = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if self._snapshot is not None and self._snapshot.file == file:
                os.close(descriptor)
                return self._snapshot.secrets
            secrets = _opened(read_all(descriptor, self._path, limit=_MAX_FILE_BYTES), keys, self._path)
        except BaseException:
            os.close(descriptor)
            raise
        before, self._snapshot = self._snapshot, _Snapshot(descriptor, file, secrets)
        if before is not None:
            os.close(before.descriptor)
        return secrets


def _sealed(secrets: Secrets, keys: VaultKeys) -> bytes:
    content = records.encode(secrets)
    if len(content) > records.MAX_CONTENT_BYTES:
        raise VaultFullError(
            "the vault is full", expected=f"at most {records.MAX_CONTENT_BYTES} bytes", hint="delete some secrets"
        )
    sealed: bytes = pyrage.encrypt(content, [keys.identity.to_public()])
    return sealed


def _opened(content: bytes, keys: VaultKeys, path: Path) -> Secrets:
    secrets = _decrypted(content, keys)
    if secrets is None:
        raise VaultDamagedError(
            "the vault's file is damaged",
            path=str(path),
            expected="what was encrypted to the key beside it",
            hint=RESTORE,
        )
    return secrets


def _decrypted(content: bytes, keys: VaultKeys) -> Secrets | None:
    # No error is raised from here: its context could hold what was decrypted.
    try:
        return records.decode(pyrage.decrypt(content, [keys.identity]))
    except pyrage.DecryptError:
        return None

"""Compiled modules on disk: only files that we wrote, only for us, and no more than so many.

Rules of this module:

1. The directory is ours and private (0700), or it is refused; so is every file in it, when it is opened.
2. An entry is ``KEY.facts`` (what is known of the module, behind its own digest) and the compiled file, named by its
   digest. Both are written under another name and renamed, the facts last; so several hosts may share a directory.
3. A compiled file is only used if its digest is the one in the facts; the zygote that maps it checks once more.
4. An open descriptor keeps a file alive: evicting an entry, oldest use first, takes nothing from who has it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from pathlib import Path

from attrs import frozen

from innkeeper_sdk.errors import ConfigError, VerificationError
from innkeeper_wasm.runtime.facts import BinaryFacts

__all__ = ["CacheEntry", "ModuleCache", "sha256_of"]

_CHUNK_BYTES = 1 << 22
_MAX_FACTS_BYTES = 65_536
_STALE_SECONDS = 3600.0
_TEMPORARY = ".new-"


@frozen(kw_only=True)
class CacheEntry:
    """A compiled module that is there.

    Args:
        facts: What the compile child has reported.
        descriptor: The compiled file, open for reading; it belongs to whoever has the entry.
    """

    facts: BinaryFacts
    descriptor: int


class ModuleCache:
    """The compiled modules of one directory.

    Args:
        directory: Where they are; made if it is missing.
        max_entries: Most modules that are kept.
        max_bytes: Most bytes of compiled files that are kept.

    Raises:
        ConfigError: If the directory is another user's, or others can write to it.
    """

    def __init__(self, directory: Path, *, max_entries: int = 1000, max_bytes: int = 4_000_000_000) -> None:
        self._directory = directory
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(
                "the cache of compiled modules must be a directory of this user alone",
                path=str(directory),
                expected=f"a directory of uid {os.geteuid()} with mode 0700",
                actual=f"uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
                hint=f"remove it, or run chmod 700 {directory}",
            )

    async def open(self, key: str) -> CacheEntry | None:
        """Return the entry of a key, checked, or None."""
        facts = self._facts(key)
        if facts is None:
            return None
        descriptor = await self._checked(facts.compiled_sha256, self._directory / f"{facts.compiled_sha256}.bin")
        if descriptor is None:
            return None
        for name in (f"{key}.facts", f"{facts.compiled_sha256}.bin"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._directory / name)
        return CacheEntry(facts=facts, descriptor=descriptor)

    def new_file(self) -> tuple[int, Path]:
        """Return a new file for a compile child to write to: a descriptor, and where it is for now."""
        descriptor, path = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._directory)
        return descriptor, Path(path)

    async def store(self, key: str, facts: BinaryFacts, file: Path) -> CacheEntry:
        """Keep a compiled file under a key, and evict what is too much.

        Args:
            key: The key.
            facts: What the compile child has reported.
            file: What :meth:`new_file` has returned; it is renamed.

        Raises:
            VerificationError: If the file is not the one that was reported.
        """
        digest = facts.compiled_sha256
        # Binaries that differ only in what is not compiled share a file, and so its pages in memory.
        descriptor = await self._checked(digest, self._directory / f"{digest}.bin")
        if descriptor is None:
            descriptor = await self._checked(digest, file)
            if descriptor is None:
                raise VerificationError("a compiled module was changed while it was written", path=str(file))
            self._move(file, f"{digest}.bin")
        self._write_facts(key, facts)
        self._evict()
        return CacheEntry(facts=facts, descriptor=descriptor)

    def _move(self, file: Path, name: str) -> None:
        file.rename(self._directory / name)

    def _write_facts(self, key: str, facts: BinaryFacts) -> None:
        descriptor, path = self.new_file()
        data = json.dumps(facts.to_json()).encode()
        with open(descriptor, "wb") as file:
            file.write(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
        self._move(path, f"{key}.facts")

    async def _checked(self, digest: str, path: Path) -> int | None:
        """Open a file of our own that has this digest; None if there is none."""
        try:
            descriptor = _open_own(path)
        except FileNotFoundError:
            return None
        if descriptor is None:
            return None
        try:
            if await sha256_of(descriptor) == digest:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _facts(self, key: str) -> BinaryFacts | None:
        try:
            descriptor = _open_own(self._directory / f"{key}.facts")
        except FileNotFoundError:
            return None
        if descriptor is None:
            return None
        with open(descriptor, "rb") as file:
            digest, _, data = file.read(_MAX_FACTS_BYTES).partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != digest:
            return None
        try:
            return BinaryFacts.from_json(json.loads(data))
        except ValueError:  # Written by another version of ours.
            return None

    def _evict(self) -> None:
        now = time.time()
        entries: list[tuple[float, int, Path]] = []
        for item in os.scandir(self._directory):
            with contextlib.suppress(FileNotFoundError):
                found = item.stat(follow_symlinks=False)
                if item.name.startswith(_TEMPORARY) and now - found.st_mtime > _STALE_SECONDS:
                    os.unlink(item.path)
                elif item.name.endswith(".bin"):
                    entries.append((found.st_mtime, found.st_size, Path(item.path)))
        entries.sort(reverse=True)
        total = 0
        for number, (_, size, path) in enumerate(entries, start=1):
            total += size
            if number > self._max_entries or total > self._max_bytes:
                path.unlink(missing_ok=True)
        self._drop_dangling()

    def _drop_dangling(self) -> None:
        for path in self._directory.glob("*.facts"):
            facts = self._facts(path.stem)
            if facts is None or not (self._directory / f"{facts.compiled_sha256}.bin").exists():
                path.unlink(missing_ok=True)


async def sha256_of(source: int | bytes) -> str:
    """Return the digest of a file or of bytes, letting the event loop go on between chunks."""
    digest = hashlib.sha256()
    offset = 0
    while True:
        if isinstance(source, int):
            chunk: bytes | memoryview = os.pread(source, _CHUNK_BYTES, offset)
        else:
            chunk = memoryview(source)[offset : offset + _CHUNK_BYTES]
        if not chunk:
            return digest.hexdigest()
        digest.update(chunk)
        offset += len(chunk)
        await asyncio.sleep(0)


def _open_own(path: Path) -> int | None:
    """Open a file for reading if it is a plain file that only we can write; None if it is another thing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        os.close(descriptor)
        return None
    return descriptor

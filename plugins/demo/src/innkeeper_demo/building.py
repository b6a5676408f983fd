"""The examples' binaries, built when their sources are not those of the last build.

Rules of this module:

1. A binary is kept by the digest of what decides it here: the example's files and the code that builds. A change of any
   of them is another name; nothing is taken for current by its time.
2. What is missing is built by ``innkeeper workflow build``, in the order in which it is needed, beside whatever else
   goes on: two at once, or one for each processor if there are more. They wait for one installation of packages, since
   the examples name the same ones.
3. A build that fails is told with its own words, and no other is started after it. Closing ends those that run;
   they end too when this process is gone.
4. Types are not checked: that changes no byte of a binary and takes a third of a build. The tests build the same
   examples with the check.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from attrs import field, frozen

from innkeeper_demo.errors import StepError
from innkeeper_demo.interrupts import held
from innkeeper_demo.repository import Repository
from innkeeper_demo.tether import tethered

__all__ = ["Builds"]

_CACHE: Final = Path(".build", "demo")
_BUILD_PACKAGE: Final = "innkeeper_wasm"
# Beyond the limits that the build has for each of its tools.
_BUILD_SECONDS: Final = 1800.0
_LEAST_AT_ONCE: Final = 2
_LAST_LINES: Final = 12


@frozen
class _Build:
    """A build that runs."""

    process: subprocess.Popen[bytes]
    part: Path
    log: IO[bytes]
    began: float = field(factory=time.monotonic)


class Builds:
    """Build examples.

    Args:
        repository: Where they are.
        names: Which, in the order in which they are needed.
        environ: The environment of the builds.
        packages: Where builds keep packages and caches; None is the clone's own place.

    Raises:
        StepError: The code that builds is not installed.
    """

    def __init__(
        self, repository: Repository, names: Iterable[str], *, environ: Mapping[str, str], packages: Path | None = None
    ) -> None:
        self._repository = repository
        self._environ = dict(environ)
        self._cache = repository.root / _CACHE
        self._packages = packages or repository.root / ".build" / "workflow"
        self._binaries = {name: self._cache / f"{name}-{_digest(repository.example(name))}.wasm" for name in names}
        self.missing = tuple(name for name, binary in self._binaries.items() if not binary.is_file())
        self._waiting = list(self.missing)
        self._running: dict[str, _Build] = {}
        self._at_once = max(_LEAST_AT_ONCE, len(os.sched_getaffinity(0)))
        self._stack = ExitStack()

    def start(self) -> None:
        """Start building what is missing; whoever calls it calls ``close`` in the end, whatever comes of it."""
        if self.missing:
            self._cache.mkdir(parents=True, exist_ok=True)
            # The clone ignores it already; a copy without git's files should too.
            (self._cache / ".gitignore").write_text("*\n", encoding="utf-8")
        self._start_next()

    def close(self) -> None:
        """End what still runs, and remove what it has made half-way."""
        self._stack.close()

    @property
    def done(self) -> bool:
        """Return whether all binaries are there, as far as it was looked."""
        return not self._running and not self._waiting

    def look(self) -> None:
        """Take note of the builds that have ended, and start those that waited for it.

        Raises:
            StepError: One has failed; the message has what it said.
        """
        for name, build in list(self._running.items()):
            if build.process.poll() is not None:
                self._take(name)
        self._start_next()

    def binary(self, name: str) -> bytes:
        """Return an example's binary, once it is built.

        Args:
            name: Which.

        Raises:
            StepError: It cannot be built; the message has what the build said. Or another one that it waits for cannot.
        """
        self.look()
        while name in self._waiting:
            self._await(next(iter(self._running)))
        if name in self._running:
            self._await(name)
        return self._binaries[name].read_bytes()

    def _await(self, name: str) -> None:
        build = self._running[name]
        try:
            build.process.wait(max(0.0, build.began + _BUILD_SECONDS - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise StepError(f"the example {name} is not built in {_BUILD_SECONDS:.0f} s") from None
        self.look()

    def _take(self, name: str) -> None:
        build = self._running[name]
        if build.process.returncode != 0:
            raise StepError(f"the example {name} cannot be built; the build said:\n{_last_words(build.log)}")
        build.part.replace(self._binaries[name])
        del self._running[name]

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            name = self._waiting[0]
            self._running[name] = self._start(name)
            del self._waiting[0]

    def _start(self, name: str) -> _Build:
        log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with the stack
        # One that is ended half-way must not be found complete.
        part = self._cache / f"part-{os.getpid()}-{self._binaries[name].name}"
        self._stack.callback(part.unlink, missing_ok=True)
        build = [sys.executable, "-I", "-m", "innkeeper", "workflow", "build", str(self._repository.example(name))]
        with held():
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                tethered([*build, "--skip-type-checks", "-o", str(part), "--build-dir", str(self._packages)]),
                env=self._environ,
                cwd=self._repository.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self._stack.callback(_end, process)
        return _Build(process, part, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # It ends the tools that it has started.
        process.terminate()
        process.wait()


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:])


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in (*_files(folder, "*"), *_files(_build_code(), "*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _build_code() -> Path:
    spec = find_spec(_BUILD_PACKAGE)
    if spec is None or spec.origin is None:
        raise StepError("the provider that builds workflows is not installed", expected=_BUILD_PACKAGE, actual="none")
    return Path(spec.origin).parent / "build"


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    # Flat, as workflows of the official SDK are; node_modules takes no part in a build.
    return iter(sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith(".")))

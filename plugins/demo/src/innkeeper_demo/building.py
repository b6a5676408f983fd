"""The examples' binaries, built when their sources are not those of the last build.

Rules of this module:

1. A binary is kept by the digest of what decides it here: the example's files and the code that builds. A change of any
   of them is another name; nothing is taken for current by its time.
2. What is missing is built by ``innkeeper workflow build``, all at once: installing packages waits for the network and
   compiling for the processor.
3. A build that fails ends the others, and is told with its own words.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from attrs import frozen

from innkeeper_demo.errors import StepError
from innkeeper_demo.repository import Repository

__all__ = ["build_examples"]

_CACHE: Final = Path(".build", "demo")
_BUILD_PACKAGE: Final = "innkeeper_wasm"
# Beyond the limits that the build has for each of its tools.
_BUILD_SECONDS: Final = 1800.0
_LAST_LINES: Final = 12


@frozen
class _Build:
    """A build that runs."""

    name: str
    binary: Path
    process: subprocess.Popen[bytes]
    log: IO[bytes]


def build_examples(
    repository: Repository,
    names: Iterable[str],
    *,
    environ: Mapping[str, str],
    packages: Path | None = None,
    say: Callable[[str], None],
) -> dict[str, bytes]:
    """Return the examples' binaries by their names.

    Args:
        repository: Where they are.
        names: Which.
        environ: The environment of the builds.
        packages: Where builds keep packages and caches; None is the clone's own place.
        say: Called with what is going on.

    Raises:
        StepError: One cannot be built; the message has what the build said.
    """
    cache = repository.root / _CACHE
    wanted = {name: cache / f"{name}-{_digest(repository.example(name))}.wasm" for name in names}
    missing = {name: binary for name, binary in wanted.items() if not binary.is_file()}
    if missing:
        say(f"building {', '.join(missing)}; the first time packages come from the npm registry")
        cache.mkdir(parents=True, exist_ok=True)
        # The clone ignores it already; a copy without git's files should too.
        (cache / ".gitignore").write_text("*\n", encoding="utf-8")
        _build(repository, missing, environ, packages or repository.root / ".build" / "workflow", say)
    say(f"{', '.join(wanted)} ({f'{len(missing)} built now' if missing else 'built before'})")
    return {name: binary.read_bytes() for name, binary in wanted.items()}


def _build(
    repository: Repository,
    missing: Mapping[str, Path],
    environ: Mapping[str, str],
    packages: Path,
    say: Callable[[str], None],
) -> None:
    with ExitStack() as stack:
        builds = []
        for name, binary in missing.items():
            log = stack.enter_context(tempfile.TemporaryFile())
            # One that is ended half-way must not be found complete.
            part = binary.with_name(f"part-{os.getpid()}-{binary.name}")
            stack.callback(part.unlink, missing_ok=True)
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-I", "-m", "innkeeper", "workflow", "build"),
                    *(str(repository.example(name)), "-o", str(part), "--build-dir", str(packages)),
                ],
                env=dict(environ),
                cwd=repository.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.callback(_end, process)
            builds.append(_Build(name, binary, process, log))
        for number, build in enumerate(builds, 1):
            try:
                code = build.process.wait(_BUILD_SECONDS)
            except subprocess.TimeoutExpired:
                raise StepError(f"the example {build.name} is not built in {_BUILD_SECONDS:.0f} s") from None
            if code != 0:
                raise StepError(f"the example {build.name} cannot be built; the build said:\n{_last_words(build.log)}")
            build.binary.with_name(f"part-{os.getpid()}-{build.binary.name}").replace(build.binary)
            say(f"built {number} of {len(builds)}")


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

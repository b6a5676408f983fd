"""Real hosts, real commands, real guests.

Commands run in a home of their own. Guests are built once and kept in ``.build`` by content: a second run is quick.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INNKEEPER = Path(sys.executable).parent / "innkeeper"
GUEST_CACHE = ROOT / ".build" / "tests"
DEADLINE = 60.0


class Cli:
    """The command, in an environment that holds nothing of the machine's user."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **{
                key: value
                for key, value in os.environ.items()
                if key.startswith(("COVERAGE", "NODE_EXTRA", "SSL_", "npm_config_"))
            },
        }
        self.base: list[str] = []

    def __call__(self, *args: str | Path, check: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``innkeeper ARGS`` and return it, having checked its exit code."""
        environ = {**self.environ, **options.pop("env", {})}
        done = subprocess.run(
            [str(INNKEEPER), *self.base, *map(str, args)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            **options,
        )
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args: str | Path, **options: Any) -> Any:
        """Run a command with ``-o json`` and return what it printed."""
        return json.loads(self(*args, "-o", "json", **options).stdout)


class RunningHost:
    """An ``innkeeper run`` of its own, and the command that speaks to it."""

    def __init__(self, cli: Cli, folder: Path, plugins: Path, runtime: Path, settings: Path | None = None) -> None:
        self.cli = Cli(cli.home)
        self.cli.environ = dict(cli.environ)
        self.cli.base = ["--data-dir", str(folder / "data"), "--runtime-dir", str(runtime), "--plugins", str(plugins)]
        if settings is not None:
            self.cli.base += ["--settings", str(settings)]
        self.log = folder / "host.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str) -> None:
        """Start the host and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(INNKEEPER), *self.cli.base, "run", "--dev", *args],
                env=self.cli.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(
            lambda: self.cli("status", "-o", "json", check=None).returncode == 0 and self.cli.json("status")["ready"]
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the host and return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=DEADLINE)
        self.process = None
        return code

    def wait(self, condition: Callable[[], Any], what: str = "the condition") -> Any:
        """Wait until a condition holds; return what it returned."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if self.process is not None and self.process.poll() is not None:
                pytest.fail(f"the host ended with {self.process.returncode}:\n{self.log.read_text()}")
            value = condition()
            if value:
                return value
        pytest.fail(f"{what} did not come about in {DEADLINE} s:\n{self.log.read_text()[-8000:]}")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Return the command."""
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def plugins_file(tmp_path: Path) -> Path:
    """Return a plugins.yaml with the default set and a cron floor of one second."""
    path = tmp_path / "plugins.yaml"
    path.write_text(
        "version: 1\n"
        "plugins:\n"
        "  wasm: [{package: innkeeper-wasm}]\n"
        "  cron: [{package: innkeeper-cron, config: {fastestScheduleIntervalSeconds: 1}}]\n"
        "  consensus: [{package: innkeeper-consensus}]\n"
    )
    return path


@pytest.fixture
def host(cli: Cli, tmp_path: Path, plugins_file: Path, runtime_dir: Path) -> Iterator[RunningHost]:
    """Return a host that is not started yet; it is stopped at the end."""
    running = RunningHost(cli, tmp_path, plugins_file, runtime_dir)
    yield running
    if running.process is not None:
        running.process.kill()
        running.process.wait()


def _build(folder: Path) -> Path:
    """Build a workflow's folder, or return what was built from the same files before."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: official guests cannot be built")
    digest = hashlib.sha256()
    for source in [*sorted(folder.iterdir()), *sorted((ROOT / "plugins/wasm/src/innkeeper_wasm/build").glob("*.py"))]:
        if source.is_file():
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    binary = GUEST_CACHE / "guests" / f"{folder.name}-{digest.hexdigest()[:16]}.wasm"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        command = [INNKEEPER, "workflow", "build", folder, "-o", binary, "--build-dir", GUEST_CACHE / "build"]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
    return binary


@pytest.fixture(scope="session")
def guest() -> Callable[[str], Path]:
    """Return what builds a workflow's folder, named from the repository's root."""
    return lambda folder: _build(ROOT / folder)


@pytest.fixture(scope="session")
def clock() -> Path:
    """Return the example ``clock``, built."""
    return _build(ROOT / "examples" / "clock")


@pytest.fixture(scope="session")
def median() -> Path:
    """Return the example ``median``, built."""
    return _build(ROOT / "examples" / "median")


@pytest.fixture
def fast_config(tmp_path: Path) -> Path:
    """Return a configuration of ``clock`` that ticks every second."""
    path = tmp_path / "fast.json"
    path.write_text(json.dumps({"schedule": "* * * * * *", "greeting": "Hello"}))
    return path

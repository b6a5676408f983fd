"""Real commands and real hosts, with a provider whose workflows are JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

INNKEEPER = Path(sys.executable).parent / "innkeeper"
DEADLINE = 60.0


def install(site: Path, package: Path, *, version: str = "1.0") -> None:
    """Lay out a provider's package as pip would: its folder's name without ``ik_`` is the provider's id."""
    shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{package.name}-{version}.dist-info"
    info.mkdir()
    distribution = package.name.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "RECORD").write_text("")
    name = package.name.removeprefix("ik_")
    (info / "entry_points.txt").write_text(f"[innkeeper.providers]\n{name} = {package.name}.plugin\n")


def age(site: Path) -> None:
    """Make everything that is installed old enough for the index, as it is anywhere but in a test."""
    for path in [site, *site.rglob("*")]:
        os.utime(path, (1, 1))


@define
class Command:
    """The command ``innkeeper``, in an environment that holds nothing of the machine's user.

    Attributes:
        folder: Its home, and where it runs.
        runtime: Its runtime directory; short, since it is part of a socket's path.
        environ: Its environment.
    """

    folder: Path
    runtime: Path
    environ: dict[str, str] = field(factory=dict)

    def __call__(self, *args: object, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``innkeeper ARGS`` and return it, having checked its exit code."""
        done = subprocess.run(
            [INNKEEPER, *map(str, args)],
            env={**self.environ, **options.pop("env", {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            **options,
        )
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args: object, **options: Any) -> Any:
        """Run a command with ``-o json`` and return what it printed."""
        return json.loads(self(*args, "-o", "json", **options).stdout)

    def write(self, name: str, content: object) -> Path:
        """Write a file of the folder: JSON, unless it is text."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def plugins(self, entry: str = "") -> None:
        """Write a plugins.yaml with the toy provider."""
        self.write("plugins.yaml", f"plugins:\n  toys:\n    - {{package: ik-toy{entry}}}\n")

    def start(self, *args: object, **options: Any) -> subprocess.Popen[str]:
        """Start ``innkeeper ARGS``."""
        options = {"env": self.environ, "cwd": self.folder, "text": True, **options}
        return subprocess.Popen([INNKEEPER, *map(str, args)], **options)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """Return the command, with the toy provider installed and named in plugins.yaml."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, Path(__file__).parent / "toy" / "ik_toy")
    age(site)
    folder = tmp_path / "home"
    folder.mkdir()
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as runtime:
        made = Command(folder, Path(runtime))
        made.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(site),
            "INNKEEPER_DATA_DIR": str(folder / "data"),
            "INNKEEPER_RUNTIME_DIR": runtime,
            **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE")},
        }
        made.plugins()
        yield made


@define
class Running:
    """A host that runs.

    Attributes:
        process: Its process.
        command: The command that speaks to it.
        log: Its log.
    """

    process: subprocess.Popen[str]
    command: Command
    log: Path

    def wait_ready(self) -> None:
        """Wait until it is ready."""
        self.command("status", "--wait", DEADLINE)

    def stop(self, *signals: int) -> int:
        """Send signals and return the exit code."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@pytest.fixture
def start_host(command: Command) -> Iterator[Callable[..., Running]]:
    """Return what starts a host; all are killed at the end."""
    started: list[Running] = []

    def start(*args: object) -> Running:
        log = command.folder / f"host-{len(started)}.log"
        with log.open("w") as file:
            process = command.start(
                "run", *args, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        started.append(Running(process, command, log))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()

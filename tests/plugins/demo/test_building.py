"""Examples are built once for what they are, two at once, and a build that fails says what it said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from innkeeper_demo import building
from innkeeper_demo.building import Builds
from innkeeper_demo.errors import StepError
from innkeeper_demo.repository import Repository

NAMES = ("clock", "sealed", "hostile")
# In the place of the build: writes what it is given, once a line can be read from the pipe of the same name.
BUILD = """\
import pathlib, sys
with open(pathlib.Path(sys.argv[1], "go")) as go:
    said = go.readline().strip()
if said != "built":
    sys.exit(said)
pathlib.Path(sys.argv[sys.argv.index("-o") + 1]).write_text("built from " + sys.argv[1].rpartition("/")[2])
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    for name in NAMES:
        folder = tmp_path / "examples" / name
        folder.mkdir(parents=True)
        (folder / "main.ts").write_text("export async function main() {}")
    return Repository(tmp_path, ())


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, repository: Repository) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Put scripts in the place of builds; return those that were started."""
    found: dict[str, subprocess.Popen[bytes]] = {}
    # An open end keeps whoever opens the other one from waiting.
    ends = []
    for name in NAMES:
        pipe = repository.example(name) / "go"
        os.mkfifo(pipe)
        ends.append(os.open(pipe, os.O_RDWR))

    def tethered(command: list[str]) -> list[str]:
        return [sys.executable, "-I", "-c", BUILD, command[command.index("build") + 1], *command]

    popen = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        process = popen(command, **options)
        found[Path(command[4]).name] = process
        return process

    monkeypatch.setattr(building, "tethered", tethered)
    monkeypatch.setattr(building.subprocess, "Popen", start)
    monkeypatch.setattr(building.os, "sched_getaffinity", lambda _: {0})
    yield found
    for end in ends:
        os.close(end)
    assert all(process.poll() is not None for process in found.values())


@pytest.fixture
def builds(repository: Repository) -> Iterator[Callable[..., Builds]]:
    made: list[Builds] = []

    def make(*names: str) -> Builds:
        made.append(Builds(repository, names or NAMES, environ=os.environ))
        return made[-1]

    yield make
    for each in made:
        each.close()


def let(repository: Repository, name: str, said: str = "built") -> None:
    with (repository.example(name) / "go").open("w") as go:
        go.write(f"{said}\n")


def test_two_run_at_once_and_the_next_starts_when_one_has_ended(repository, builds, started) -> None:
    some = builds()
    some.start()
    assert list(started) == ["clock", "sealed"]
    let(repository, "clock")
    assert some.binary("clock") == b"built from clock"
    assert list(started) == ["clock", "sealed", "hostile"]
    assert not some.done
    # What is asked for last may be there first.
    let(repository, "hostile")
    assert some.binary("hostile") == b"built from hostile"
    let(repository, "sealed")
    assert some.binary("sealed") == b"built from sealed"
    assert some.done


def test_what_waits_for_another_is_built_when_it_is_asked_for(repository, builds, started) -> None:
    some = builds()
    some.start()
    for name in NAMES:
        let(repository, name)
    assert some.binary("hostile") == b"built from hostile"


def test_what_was_built_before_is_not_built_again(repository, builds, started) -> None:
    some = builds("clock")
    assert some.missing == ("clock",)
    some.start()
    let(repository, "clock")
    some.binary("clock")
    started.clear()
    again = builds("clock")
    again.start()
    assert (again.missing, again.done, started) == ((), True, {})
    assert again.binary("clock") == b"built from clock"


def test_what_has_changed_is_built_again(repository, builds, started) -> None:
    some = builds("clock")
    some.start()
    let(repository, "clock")
    some.binary("clock")
    (repository.example("clock") / "config.json").write_text("{}")
    assert builds("clock").missing == ("clock",)


def test_after_one_that_fails_no_other_is_started_and_the_rest_ends(repository, builds, started) -> None:
    some = builds()
    some.start()
    let(repository, "clock", "there is no clock")
    with pytest.raises(StepError, match=r"(?s)the example clock cannot be built.*there is no clock"):
        some.binary("hostile")
    assert list(started) == ["clock", "sealed"]
    some.close()
    assert started["sealed"].returncode is not None
    assert [path.name for path in (repository.root / ".build" / "demo").iterdir()] == [".gitignore"]


def test_a_build_that_fails_is_told_with_its_own_words(repository: Repository, builds) -> None:
    some = builds("clock")
    some.start()
    with pytest.raises(StepError, match=r"(?s)the example clock cannot be built.*package\.json"):
        some.binary("clock")
    assert list((repository.root / ".build" / "demo").glob("*.wasm")) == []


def test_the_examples_share_one_installation_of_packages() -> None:
    from innkeeper_wasm.build.package_set import read_package_set
    from innkeeper_wasm.build.project import read_project

    examples = Path(__file__).parents[3] / "examples"
    assert len({read_package_set(read_project(examples / name, None)).digest for name in NAMES}) == 1

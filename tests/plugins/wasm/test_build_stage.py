"""Places for builds, below one build directory: private, at a fixed distance, and never left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from innkeeper_wasm.build.errors import ProjectError
from innkeeper_wasm.build.locking import locked, try_lock
from innkeeper_wasm.build.stage import build_stage, packages_above

# A build that is killed in its place, with no chance to clean up.
KILLED = """
import os, signal, sys
from pathlib import Path
from innkeeper_wasm.build.stage import build_stage
with build_stage(Path(sys.argv[1])) as place:
    (place / "file").touch()
    print(place, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_place_lies_beside_the_packages_and_is_removed_at_the_end(tmp_path: Path) -> None:
    with build_stage(tmp_path) as place:
        assert place.parent == tmp_path / "stage"
        assert names(place) == set()
        (place / "deep").mkdir()
        (place / "deep" / "file").touch()
    assert names(tmp_path / "stage") == {"package.json", "tsconfig.json"}


def test_a_place_is_removed_when_its_build_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), build_stage(tmp_path):
        raise RuntimeError
    assert names(tmp_path / "stage") == {"package.json", "tsconfig.json"}


def test_two_builds_have_two_places_and_neither_sweeps_the_other(tmp_path: Path) -> None:
    with build_stage(tmp_path) as one:
        (one / "file").touch()
        with build_stage(tmp_path) as two:
            assert one != two
            assert (one / "file").exists()
        assert (one / "file").exists()


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    left = Path(done.stdout.strip())
    assert (left / "file").exists(), done.stderr
    with build_stage(tmp_path) as place:
        assert names(tmp_path / "stage") == {"package.json", "tsconfig.json", place.name, f"{place.name}.lock"}
        assert not left.exists()


def test_a_place_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "stage").touch()
    with pytest.raises(ProjectError, match="no place for the build"), build_stage(tmp_path):
        pytest.fail("there is a place")


def test_packages_above_a_build_directory_are_found(tmp_path: Path) -> None:
    build = tmp_path / "a" / "b" / "build"
    (build / "node_modules").mkdir(parents=True)
    assert packages_above(build) is None
    (tmp_path / "node_modules").mkdir()
    assert packages_above(build) == tmp_path / "node_modules"
    (tmp_path / "a" / "node_modules").mkdir()
    assert packages_above(build) == tmp_path / "a" / "node_modules"


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert try_lock(tmp_path / "lock") is None
    again = try_lock(tmp_path / "lock")
    assert again is not None
    again.close()

"""``innkeeper demo``: what it promises to show, to print and to leave behind."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.guests, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SECONDS = 280

INTERNAL = [
    "confidential-workflows@1.0.0-alpha",
    "confidential-workflows@1.0.0-0",
    "confidential-workflows@1.0.0",
    "confidential-workflows:ChainSelector:1@1.0.0-alpha",
    "vault@1.0.0",
    "confidential-relay@1.0.0",
    "artifacts@1.0.0",
]
UNKNOWN = "unknown-capability@1.0.0"
KEYS = ["ok", "seconds", "providers", "plain", "confidential", "internal_calls", "unknown_call", "leftovers"]


@pytest.fixture
def environ(cli, runtime_dir: Path) -> dict[str, str]:
    """Return the environment of a user whose temporary files are in a directory that a test can look into."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: official guests cannot be built")
    return {
        **cli.environ,
        "TMPDIR": str(runtime_dir),
        "INNKEEPER_BUILD_DIR": str(ROOT / ".build" / "tests" / "build"),
        # What a user has set for hosts of their own must not matter.
        "INNKEEPER_ENVIRONMENT": "production",
        "INNKEEPER_DATA_DIR": str(runtime_dir / "not-used"),
    }


@pytest.fixture
def demo(environ: dict[str, str]):
    """Return what starts the demonstration in the repository."""

    def start(*args: str | Path, cwd: Path = ROOT) -> subprocess.Popen[str]:
        command = [ROOT / ".venv" / "bin" / "innkeeper", "demo", *args]
        return subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def check_workflow(shown: dict[str, Any], at_least: int) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", shown["workflow_id"])
    assert len(shown["executions"]) >= at_least
    assert {execution["status"] for execution in shown["executions"]} == {"success"}
    ids = [execution["execution_id"] for execution in shown["executions"]]
    assert len(set(ids)) == len(ids)


def test_everything_holds_and_is_told_in_one_object(demo, runtime_dir: Path) -> None:
    picture = runtime_dir / "demo.svg"
    with demo("-o", "json", "--svg", picture) as process:
        out, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    shown = json.loads(out)
    assert list(shown) == KEYS
    assert shown["ok"] is True
    check_workflow(shown["plain"], 3)
    # Three before the crash, one after it.
    check_workflow(shown["confidential"], 4)
    results = [execution["result"]["value"] for execution in shown["confidential"]["executions"]]
    assert {result["agreed"] for result in results} == {100.75}
    assert all(re.fullmatch(r"[0-9a-f]{64}", result["hmac"]) for result in results)
    assert len({result["hmac"] for result in results}) == len(results)
    built = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (ROOT / ".build" / "demo").glob("*.wasm")}
    assert shown["confidential"]["binary_sha256"] in built
    assert len(shown["confidential"]["enclave_pids"]) >= 2

    parts = [(row["id"], row["mode"], row["state"], row["generation"]) for row in shown["providers"]]
    assert ("confidential-workflows", "host", "ready", None) in parts
    assert ("confidential-workflows", "loop", "ready", 2) in parts
    assert ("vault", "loop", "ready", 1) in parts
    assert all(isinstance(row["pid"], int) for row in shown["providers"])

    unknown = shown["unknown_call"]["error"]
    assert UNKNOWN in unknown
    assert [call["id"] for call in shown["internal_calls"]] == INTERNAL
    assert all(call["refused"] for call in shown["internal_calls"])
    assert {call["error"].replace(call["id"], UNKNOWN) for call in shown["internal_calls"]} == {unknown}

    assert shown["leftovers"] == {"processes": [], "sockets": [], "files": []}
    assert [path.name for path in runtime_dir.iterdir()] == ["demo.svg"]
    assert "everything held" in picture.read_text().replace("&#160;", " ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(demo, runtime_dir: Path, number: signal.Signals) -> None:
    with demo() as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("deploy"):
                break
        # A terminal tells the whole group, whoever else stops a command tells that alone.
        (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + number, said
    assert list(runtime_dir.iterdir()) == []
    assert not of_environment(f"TMPDIR={runtime_dir}")


def test_what_a_killed_one_has_left_the_next_one_removes(demo, runtime_dir: Path) -> None:
    with demo() as process:
        for line in process.stderr:
            if line.startswith("deploy"):
                break
        os.killpg(process.pid, signal.SIGKILL)
    (left,) = runtime_dir.iterdir()
    with next(left.glob("*.lock")).open("rb") as marker:
        # Its host has that locked for as long as it takes to stop.
        fcntl.flock(marker, fcntl.LOCK_EX)
    with demo() as process:
        process.stderr.readline()
        assert not left.exists()
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert list(runtime_dir.iterdir()) == []
    assert not of_environment(f"TMPDIR={runtime_dir}")


@pytest.mark.parametrize("place", ["nowhere/demo.svg", "file/demo.svg", "."])
def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_runs(demo, runtime_dir: Path, place: str) -> None:
    (runtime_dir / "file").touch()
    with demo("--svg", runtime_dir / place) as process:
        out, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "--svg" in said
    assert "start" not in said
    assert out == ""
    assert [path.name for path in runtime_dir.iterdir()] == ["file"]


def test_a_failed_build_is_told_with_its_step_and_leaves_nothing(demo, runtime_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "plugins.yaml", tmp_path)
    (tmp_path / "examples" / "sealed" / "main.ts").write_text("export const main = )")
    with demo(cwd=tmp_path) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "\nbuild: the example sealed cannot be built; the build said:\n" in said
    assert "\ndeploy: an example could not be built\n" in said
    assert list(runtime_dir.iterdir()) == []
    assert not of_environment(f"TMPDIR={runtime_dir}")


def test_outside_of_a_clone_it_says_what_it_needs(cli, tmp_path: Path) -> None:
    done = cli("demo", check=2, cwd=tmp_path)
    assert "clone of the repository" in done.stderr
    assert done.stdout == ""


def test_its_help_starts_nothing(cli, tmp_path: Path) -> None:
    assert "--svg" in cli("demo", "--help", cwd=tmp_path).stdout


def of_environment(variable: str) -> list[int]:
    """Return the processes that have a variable in their environment."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and variable.encode() in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").iterdir()))
def test_every_example_passes_its_type_check_which_the_demo_leaves_out(guest, name: str) -> None:
    assert guest(f"examples/{name}").read_bytes()[:4] == b"\0asm"

"""``innkeeper workflow run``: real ephemeral hosts, with workflows that are JSON."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0
ONE = {"index": 0, "id": "toy-trigger@1.0.0", "method": "Tick", "type": "google.protobuf.Duration", "config": "30s"}


@pytest.fixture(autouse=True)
def nothing_is_left(command) -> Iterator[None]:
    """Check that no run leaves a directory behind."""
    temporary = command.runtime / "t"
    temporary.mkdir()
    command.environ["TMPDIR"] = str(temporary)
    yield
    # A run that was killed has left its host to clean up.
    end = time.monotonic() + DEADLINE
    while list(temporary.iterdir()):
        assert time.monotonic() < end, list(temporary.rglob("*"))


def ran(command, script: object, *args: object, code: int = 0, **options: Any) -> dict[str, Any]:
    """Run a workflow and return what was printed."""
    shown = command.json("workflow", "run", command.write("x.toy", script), *args, code=code, **options)
    assert set(shown) == {"triggers", "logs", "result", "seconds"}
    return shown


def test_a_value_is_one_object_and_zero(command) -> None:
    shown = ran(command, {"value": {"n": 1, "s": "é"}, "logs": ["a", "b"]})
    (trigger,) = shown["triggers"]
    assert {key: trigger[key] for key in ONE} == ONE
    assert shown["logs"] == ["a", "b"]
    assert shown["result"] == {"value": {"n": 1, "s": "é"}}
    assert 0 < shown["seconds"] < DEADLINE


def test_people_see_triggers_log_and_result(command) -> None:
    path = command.write("x.toy", {"value": 42, "logs": ["a\x1b[2Jb"]})
    done = command("workflow", "run", path)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["triggers:", '  0  toy-trigger@1.0.0  Tick  "30s"']
    assert lines[2:4] == ["log:", "  a\\x1b[2Jb"]
    assert lines[4].startswith("result after ")
    assert lines[5:] == ["42"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"error": "the workflow says no"}, "the workflow says no"),
        ({"fails": "it was cut off"}, "it was cut off"),
        ({"refuses": "bad config"}, "bad config"),
        ({"triggers": []}, "no triggers"),
        ({"triggers": ["secret-action@1.0.0"]}, "secret-action@1.0.0 not found"),
    ],
)
def test_an_error_is_one_object_and_one(command, script: object, error: str) -> None:
    path = command.write("x.toy", script)
    done = command("workflow", "run", path, "-o", "json", code=1)
    assert error in json.loads(done.stdout)["result"]["error"]
    assert error in json.loads(done.stderr)["message"]


def test_what_the_host_refuses_is_one_object_and_one(command) -> None:
    assert "{" in command.write("x.exe", "{}").read_text()
    done = command("workflow", "run", "x.exe", "-o", "json", code=1)
    assert "no enabled module type takes this file" in json.loads(done.stdout)["result"]["error"]
    shown = ran(command, {}, "--attributes", "null", code=1)
    assert "attributes" in shown["result"]["error"]
    assert shown["triggers"] == shown["logs"] == []


def test_base64_configuration_and_attributes_are_taken(command) -> None:
    command.write("x.toy.b64", base64.b64encode(b'{"value": "config"}').decode())
    config = command.write("c.json", '{"k": 1}')
    attributes = command.write("a.json", "{}")
    shown = command.json("workflow", "run", "x.toy.b64", "--config", config, "--attributes", f"@{attributes}")
    assert shown["result"]["value"] == {"bytes": base64.b64encode(b'{"k": 1}').decode()}


def test_the_event_is_the_next_one_or_the_payload(command) -> None:
    assert ran(command, {"value": "event"})["result"]["value"] == 42
    payload = '"1970-01-01T00:02:00Z"'
    assert ran(command, {"value": "event"}, "--payload", payload)["result"]["value"] == 120
    done = command("workflow", "run", "x.toy", "--payload", "{", code=2)
    assert "the JSON is no google.protobuf.Timestamp" in done.stderr


def test_a_trigger_that_cannot_tell_its_next_event_is_waited_for_and_that_is_said(command) -> None:
    path = command.write("x.toy", {"value": "event", "triggers": ["toy-trigger@1.0.0", "late-trigger@1.0.0"]})
    done = command("workflow", "run", path, "--trigger", "1", "-o", "json")
    assert json.loads(done.stdout)["result"]["value"] == 7
    assert "waiting for the trigger" in done.stderr


def test_a_trigger_that_does_not_exist_is_a_wrong_argument(command) -> None:
    done = command("workflow", "run", command.write("x.toy", {}), "--trigger", "7", code=2)
    assert "there is no trigger 7 (expected --trigger from 0 to 0" in done.stderr
    assert "result" not in done.stdout


@pytest.mark.parametrize(
    ("option", "namespace"), [("token=TOKEN", "main"), ("vault/token=TOKEN", "vault"), ("a/b/token=TOKEN", "a/b")]
)
def test_a_secret_comes_from_a_variable(command, option: str, namespace: str) -> None:
    script = {"value": "secret", "id": "token", "namespace": namespace}
    shown = ran(command, script, "--secret", option, env={"TOKEN": "s3cr3t"})
    assert shown["result"]["value"] == "s3cr3t"


def test_a_secret_that_was_not_given_is_refused(command) -> None:
    script = {"value": "secret", "id": "other", "namespace": "main"}
    shown = ran(command, script, "--secret", "token=TOKEN", env={"TOKEN": "s3cr3t"})
    assert "other" in shown["result"]["value"]
    assert "s3cr3t" not in shown["result"]["value"]


@pytest.mark.parametrize("option", ["token", "=TOKEN", "token=", "/token=TOKEN", "token=MISSING", "main/=TOKEN"])
def test_a_secret_that_is_none_is_a_wrong_argument(command, option: str) -> None:
    done = command("workflow", "run", command.write("x.toy", {}), "--secret", option, code=2, env={"TOKEN": "x"})
    assert "--secret" in done.stderr


@pytest.mark.parametrize(
    "option", ["S3cr3t", "a=S3cr3t", "main/a=S3cr3t", "/a=S3cr3t", "S3cr3t=", "S3cr3t==", "a=S3cr3t=", "=S3cr3t"]
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_a_secret_in_the_place_of_its_variable_is_not_repeated(command, option: str, output: str) -> None:
    path = command.write("x.toy", {})
    done = command("workflow", "run", path, "--secret", option, "-o", output, code=2)
    assert "--secret" in done.stderr
    assert "S3cr3t" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("token=ODD", "the value of the variable ODD is not UTF-8"),
        ("t\udcff=TOKEN", "the name of a secret must be UTF-8"),
    ],
)
def test_a_secret_that_is_no_text_is_a_wrong_argument(command, option: str, expected: str) -> None:
    path = command.write("x.toy", {})
    done = command("workflow", "run", path, "--secret", option, code=2, env={"ODD": "S3cr3t\udcff", "TOKEN": "x"})
    assert expected in done.stderr
    assert "S3cr3t" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_provider_that_fails_is_told_and_stops_nothing(command) -> None:
    command.write(
        "plugins.yaml",
        "plugins:\n"
        "  toys: [{package: ik-toy}]\n"
        "  others: [{package: not-there}]\n"
        "  off: [{package: x, enabled: false}]\n",
    )
    done = command("workflow", "run", command.write("x.toy", {"value": 1}))
    assert "warning: provider others is failed" in done.stderr
    assert "off" not in done.stderr


def test_a_module_type_that_does_not_start_defers_the_workflow(command) -> None:
    command.plugins(", config: {start: fails}")
    path = command.write("x.toy", {"value": 1})
    done = command("workflow", "run", path, code=1)
    assert "warning: provider toy is failed" in done.stderr
    assert "the toy is broken" in done.stderr


def test_a_faulty_plugins_yaml_is_told_as_by_run(command) -> None:
    command.write("plugins.yaml", "plugins:\n  a: [{pakage: x}]\n  b: [{packge: x}]\n")
    path = command.write("x.toy", {})
    done = command("workflow", "run", path, "-o", "json", code=3)
    assert done.stdout == ""
    error = json.loads(done.stderr)
    assert error["code"] == "config-invalid"
    assert "plugins.yaml:2:" in error["message"]
    assert "plugins.yaml:3:" in error["message"]


def test_a_host_that_dies_at_its_start_says_its_last_words(command) -> None:
    plugin = Path(command.environ["PYTHONPATH"]) / "ik_toy" / "plugin.py"
    plugin.write_text("import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos._exit(9)\n")
    path = command.write("x.toy", {})
    done = command("workflow", "run", path, "-o", "json", code=1)
    assert "ended before it was ready" in json.loads(done.stdout)["result"]["error"]
    assert "last words" in done.stderr


def test_a_production_database_is_not_touched(command) -> None:
    database = command.folder / "production.db"
    command.write("innkeeper.yaml", f"database_url: sqlite+aiosqlite:///{database}\nenvironment: production\n")
    assert ran(command, {"value": 1})["result"] == {"value": 1}
    assert not database.exists()
    assert not (command.folder / "data").exists()


def host_of(process: subprocess.Popen[str]) -> int:
    """Return the process id of a run's ephemeral host."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


@pytest.fixture
def sleeping(command) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return what starts a run whose workflow sleeps, and waits until it does."""
    started = []

    def start(*args: object, **options: Any) -> subprocess.Popen[str]:
        path = command.write("x.toy", {"sleep": 600, "logs": ["asleep"]})
        process = command.start(
            "workflow", "run", path, *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if "asleep" in line:
                return process
        pytest.fail(f"it ended: {process.communicate()}")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def gone(pidfd: int) -> None:
    assert select.select([pidfd], [], [], DEADLINE)[0]
    os.close(pidfd)


def test_an_interrupted_run_stops_its_host(sleeping: Callable[..., subprocess.Popen[str]]) -> None:
    process = sleeping()
    host = os.pidfd_open(host_of(process))
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 130
    gone(host)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_takes_its_host_along(sleeping: Callable[..., subprocess.Popen[str]], number: int) -> None:
    process = sleeping()
    host = os.pidfd_open(host_of(process))
    process.send_signal(number)
    process.wait(DEADLINE)
    gone(host)


def test_a_host_that_is_killed_is_a_failed_run(command, sleeping: Callable[..., subprocess.Popen[str]]) -> None:
    process = sleeping()
    os.kill(host_of(process), signal.SIGKILL)
    assert process.wait(DEADLINE) == 1
    assert process.stderr is not None
    assert "the host does not answer" in process.stderr.read()


def test_a_secret_is_in_no_process_but_the_commands(sleeping: Callable[..., subprocess.Popen[str]], command) -> None:
    command.environ["VARIABLE"] = "s3cr3t-value"
    process = sleeping("--secret", "token=VARIABLE")
    host = host_of(process)
    pids = [host, *map(int, Path(f"/proc/{host}/task/{host}/children").read_text().split())]
    assert len(pids) > 1
    for pid in pids:
        for file in ("environ", "cmdline"):
            assert b"s3cr3t" not in Path(f"/proc/{pid}/{file}").read_bytes()
    for path in [*Path(command.environ["TMPDIR"]).rglob("*"), *command.folder.rglob("*")]:
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes()

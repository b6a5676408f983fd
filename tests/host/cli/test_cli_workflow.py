"""``innkeeper workflow``, ``executions`` and ``capabilities`` against a running host."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

DEADLINE = 60.0
OWNER = "22" * 20


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
    pytest.fail("it did not come about")


def test_a_workflow_is_deployed_looked_at_paused_activated_and_deleted(command, start_host) -> None:
    start_host().wait_ready()
    path = command.write("x.toy", {"value": 1, "logs": ["hello"]})
    config = command.write("c.json", "{}")
    deployed = command.json(
        "workflow", "deploy", path, "--name", "one", "--owner", f"0x{OWNER}", "--config", config, "--tag", "v1"
    )
    assert (deployed["name"], deployed["owner"], deployed["tag"]) == ("one", OWNER, "v1")
    assert (deployed["status"], deployed["state"], deployed["kind"]) == ("active", "running", "toy_file")
    assert deployed["attributes"] == {}
    assert [(t["id"], t["config"]) for t in deployed["triggers"]] == [("toy-trigger@1.0.0", "30s")]
    (listed,) = command.json("workflow", "list")
    assert listed["workflow_id"] == deployed["workflow_id"]
    for selected in ("one", deployed["workflow_id"], deployed["workflow_id"][:10]):
        assert command.json("workflow", "show", selected)["workflow_id"] == deployed["workflow_id"]
    until(lambda: command.json("executions", "list", "--workflow", "one", "--status", "success"))
    assert "hello" in command("workflow", "logs", "one", "--tail", "1").stdout
    assert command.json("workflow", "pause", "one")["state"] == "paused"
    assert command.json("workflow", "activate", "one", "--owner", OWNER)["state"] == "running"
    assert command("workflow", "delete", "one").stdout == ""
    assert command.json("workflow", "list") == []
    assert command("workflow", "show", "one", code=1).stderr.startswith("error: there is no workflow 'one'")


def test_a_deployment_is_refused_with_the_hosts_own_error(command, start_host) -> None:
    start_host().wait_ready()
    path = command.write("x.toy", {})
    for arguments, text in (
        (["--attributes", "{} x"], "attributes"),
        (["--attributes", '{"confidentail": true}'], "confidentail"),
        (["--owner", "12"], "owner"),
        (["--config", command.write("big.json", "x" * 60_000)], "PerWorkflow.ConfigSizeLimit"),
    ):
        done = command("workflow", "deploy", path, "--name", "one", *arguments, "-o", "json", code=1)
        assert done.stdout == ""
        assert text in done.stderr
    assert command.json("workflow", "list") == []


def test_what_was_deployed_goes_on_after_a_restart(command, start_host) -> None:
    host = start_host()
    host.wait_ready()
    command("workflow", "deploy", command.write("x.toy", {"value": 1}), "--name", "one")
    command("workflow", "deploy", command.write("y.toy", {"value": 2}), "--name", "two", "--paused")
    assert host.stop(signal.SIGTERM) == 0
    start_host().wait_ready()
    assert [(w["name"], w["state"]) for w in command.json("workflow", "list")] == [
        ("one", "running"),
        ("two", "paused"),
    ]


def test_executions_are_listed_and_shown_in_every_form(command, start_host) -> None:
    start_host().wait_ready()
    command("workflow", "deploy", command.write("x.toy", {"value": [1, "a"], "logs": ["a\x1bb"]}), "--name", "one")
    until(lambda: command.json("executions", "list", "--status", "success"))
    command("workflow", "pause", "one")
    row = command.json("executions", "list", "--status", "success", "--limit", "1")[0]
    assert "logs" not in row
    assert (row["trigger_index"], row["attempt"], row["status"]) == (0, 1, "success")
    assert row["result"] == {"value": [1, "a"]}
    assert row["accepted_at"].endswith("Z")
    shown = command.json("executions", "show", row["execution_id"])
    assert [line["message"] for line in shown["logs"]] == ["a\x1bb"]
    assert {key: value for key, value in shown.items() if key != "logs"} == row
    table = command("executions", "show", row["execution_id"]).stdout
    assert "result:" in table
    assert "a\\x1bb" in table
    assert command("executions", "list", "-o", "plain").stdout.splitlines()[0].split("\t")[0]
    assert command("executions", "list").stdout.startswith("EXECUTION")
    assert "execution_id:" in command("executions", "list", "-o", "yaml").stdout


def test_logs_are_followed_until_interrupted(command, start_host) -> None:
    start_host().wait_ready()
    command("workflow", "deploy", command.write("x.toy", {"value": 1, "logs": ["tick"]}), "--name", "one")
    following = command.start("workflow", "logs", "one", "-f", "-o", "json", stdout=subprocess.PIPE)
    assert following.stdout is not None
    lines = [json.loads(following.stdout.readline()) for _ in range(20)]
    assert {line["message"] for line in lines} == {"tick"}
    assert len({line["execution_id"] for line in lines}) == 20
    following.send_signal(signal.SIGINT)
    assert following.wait(DEADLINE) == 130
    following.stdout.close()


def test_following_ends_with_the_host(command, start_host) -> None:
    host = start_host()
    host.wait_ready()
    command("workflow", "deploy", command.write("x.toy", {"value": 1, "logs": ["tick"]}), "--name", "one")
    following = command.start("workflow", "logs", "one", "-f", stdout=subprocess.PIPE)
    assert following.stdout is not None
    following.stdout.readline()
    assert host.stop(signal.SIGTERM) == 0
    assert following.wait(DEADLINE) == 0
    following.stdout.close()


def test_a_reader_that_is_gone_ends_following(command, start_host) -> None:
    start_host().wait_ready()
    command("workflow", "deploy", command.write("x.toy", {"value": 1, "logs": ["tick"]}), "--name", "one")
    following = command.start("workflow", "logs", "one", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert following.stdout is not None
    assert following.stderr is not None
    following.stdout.readline()
    following.stdout.close()
    assert following.wait(DEADLINE) == 141
    assert following.stderr.read() == ""
    following.stderr.close()


def test_the_operator_sees_every_capability(command, start_host) -> None:
    start_host().wait_ready()
    listed = {row["id"]: row for row in command.json("capabilities", "list")}
    assert set(listed) == {"artifacts@1.0.0", "toy-trigger@1.0.0", "late-trigger@1.0.0", "secret-action@1.0.0"}
    assert (listed["artifacts@1.0.0"]["provider"], listed["artifacts@1.0.0"]["visibility"]) == ("innkeeper", "internal")
    assert listed["secret-action@1.0.0"]["visibility"] == "internal"
    shown = command.json("capabilities", "info", "toy-trigger@1.0.0")
    assert shown["methods"] == [
        {
            "name": "Tick",
            "input": "google.protobuf.Duration",
            "output": "google.protobuf.Timestamp",
            "idempotent": True,
        }
    ]
    assert "did you mean toy-trigger@1.0.0" in command("capabilities", "info", "toy-triger@1.0.0", code=1).stderr
    assert "toy-trigger@1.0.0" in command("capabilities", "list").stdout


def test_status_counts_and_waits(command, start_host) -> None:
    waiting = command.start("status", "--wait", "-o", "json", stdout=subprocess.PIPE)
    start_host("--dev")
    out, _ = waiting.communicate(timeout=DEADLINE)
    assert waiting.returncode == 0
    assert json.loads(out)["providers"] == {"ready": 1}
    command("workflow", "deploy", command.write("x.toy", {}), "--name", "one", "--paused")
    assert command.json("status")["workflows"] == {"paused": 1}
    assert "ready" in command("status").stdout


def test_waiting_for_a_host_that_does_not_come_ends(command) -> None:
    assert "no host is running" in command("status", "--wait", "0.05", code=5).stderr

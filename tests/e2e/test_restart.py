"""A deployed workflow goes on across restarts of the host."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.guests


def successes(host) -> list[dict]:
    return [e for e in host.cli.json("executions", "list") if e["status"] == "success"]


def test_a_cron_workflow_goes_on_after_a_restart(host, clock: Path, fast_config: Path) -> None:
    host.start()
    host.cli("workflow", "deploy", clock, "--name", "clock", "--config", fast_config, "--tag", "v1")
    host.wait(lambda: len(successes(host)) >= 2, "two executions")
    assert host.stop() == 0

    host.start()
    before = {e["execution_id"] for e in successes(host)}
    host.wait(lambda: {e["execution_id"] for e in successes(host)} - before, "an execution after the restart")
    assert host.stop() == 0


def test_a_cron_workflow_goes_on_after_the_host_was_killed(host, clock: Path, fast_config: Path) -> None:
    host.start()
    host.cli("workflow", "deploy", clock, "--name", "clock", "--config", fast_config)
    host.wait(lambda: successes(host), "an execution")
    host.stop(signal.SIGKILL)

    host.start()
    before = {e["execution_id"] for e in successes(host)}
    host.wait(lambda: {e["execution_id"] for e in successes(host)} - before, "an execution after the crash")
    rows = host.cli.json("executions", "list")
    assert {r["status"] for r in rows} <= {"success", "running", "accepted"}
    assert host.stop() == 0


def test_pause_activate_and_delete(host, clock: Path, fast_config: Path) -> None:
    host.start()
    deployed = host.cli.json("workflow", "deploy", clock, "--name", "clock", "--config", fast_config)
    host.wait(lambda: successes(host), "an execution")
    host.cli("workflow", "pause", "clock")
    host.wait(lambda: host.cli.json("workflow", "show", "clock")["state"] == "paused", "the pause")
    quiet = len(successes(host))
    host.cli("workflow", "activate", "clock")
    host.wait(lambda: len(successes(host)) > quiet, "an execution after activation")
    shown = host.cli.json("workflow", "show", "clock")
    assert shown["workflow_id"] == deployed["workflow_id"]
    assert shown["triggers"][0]["id"] == "cron-trigger@1.0.0"
    logs = host.cli("workflow", "logs", "clock").stdout
    assert "Hello, it is" in logs
    host.cli("workflow", "delete", "clock")
    assert host.cli.json("workflow", "list") == []
    assert host.stop() == 0

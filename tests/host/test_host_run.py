"""``innkeeper run`` and what speaks to it: real processes, signals and kills."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0

Start = Callable[..., Any]


def gone(*pidfds: int) -> None:
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], DEADLINE)[0], "a process lives on"
        os.close(pidfd)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
    pytest.fail("it did not come about")


def test_a_host_becomes_ready_and_says_so(command, start_host: Start) -> None:
    reading, writing = os.pipe()
    process = command.start(
        "run", "--dev", "--ready-fd", writing, pass_fds=[writing], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    os.close(writing)
    with open(reading) as pipe:
        assert pipe.read() == '{"ready": true}\n'
    status = command.json("status")
    assert (status["ready"], status["environment"], status["pid"]) == (True, "development", process.pid)
    assert status["providers"] == {"ready": 1}
    process.terminate()
    _, log = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events[0] == "the host is ready"
    assert events[-1] == "the host has stopped"


def test_a_descriptor_that_is_none_is_a_wrong_argument(command) -> None:
    assert "--ready-fd 99" in command("run", "--ready-fd", "99", code=2).stderr


def test_whoever_asked_for_the_descriptor_may_be_gone(command) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = command("run", "--ready-fd", writing, "--plugins", "missing.yaml", code=3, pass_fds=[writing])
    os.close(writing)
    assert "missing.yaml" in done.stderr


def test_its_files_are_its_users_alone(command, start_host: Start) -> None:
    start_host().wait_ready()
    for path in (command.folder / "data", command.runtime / "default", command.runtime / "default" / "control.sock"):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in [*(command.folder / "data").rglob("*"), *(command.runtime / "default").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_production_is_the_default(command, start_host: Start) -> None:
    start_host().wait_ready()
    assert command.json("status")["environment"] == "production"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_stops_it_and_leaves_no_socket_and_no_process(
    command, start_host: Start, number: int, code: int
) -> None:
    host = start_host()
    host.wait_ready()
    pidfds = [os.pidfd_open(pid) for pid in children(host.process.pid)]
    assert pidfds
    assert host.stop(number) == code
    gone(*pidfds)
    assert not (command.runtime / "default" / "control.sock").exists()
    command("status", code=5)


def test_a_signal_during_the_start_stops_it(command, start_host: Start) -> None:
    command.plugins(", config: {start: hangs}")
    host = start_host()
    until(lambda: command("status", "-o", "json", code=None).returncode == 1)
    assert command.json("plugins", "list")[0]["state"] == "starting"
    assert host.stop(signal.SIGTERM) == 0
    assert "the host has stopped" in host.log.read_text()


@pytest.mark.parametrize(("seconds", "signals", "code"), [(0.5, 1, 0), (600, 2, 1)])
def test_the_first_signal_lets_executions_finish_and_the_second_does_not(
    command, start_host: Start, seconds: float, signals: int, code: int
) -> None:
    host = start_host("--log-level", "warning")
    host.wait_ready()
    command("workflow", "deploy", command.write("x.toy", {"sleep": seconds, "value": 1}), "--name", "slow")
    until(lambda: command.json("executions", "list", "--status", "running"))
    host.process.terminate()
    if signals > 1:
        until(lambda: '"draining": true' in command("status", "-o", "json", code=None).stdout)
        host.process.terminate()
    assert host.process.wait(DEADLINE) == code
    start_host("--log-level", "warning").wait_ready()
    # What was cut off is tried again, with the same id.
    until(
        lambda: any(
            row["attempt"] == signals and row["status"] != "accepted" for row in command.json("executions", "list")
        )
    )
    assert signals > 1 or {row["attempt"] for row in command.json("executions", "list")} <= {0, 1}
    assert not [row for row in command.json("executions", "list") if row["status"] in ("failed", "timeout", "in_doubt")]


def test_a_killed_host_leaves_no_process_and_no_socket_and_can_be_started_again(command, start_host: Start) -> None:
    host = start_host()
    host.wait_ready()
    (guard,) = children(host.process.pid)
    pidfd = os.pidfd_open(guard)
    host.process.kill()
    host.process.wait()
    gone(pidfd)
    assert not (command.runtime / "default" / "control.sock").exists()
    start_host().wait_ready()


def test_a_killed_guard_is_replaced(command, start_host: Start) -> None:
    host = start_host()
    host.wait_ready()
    (first,) = children(host.process.pid)
    os.kill(first, signal.SIGKILL)
    second = until(lambda: [pid for pid in children(host.process.pid) if pid != first])[0]
    pidfd = os.pidfd_open(second)
    until(lambda: Path(f"/proc/{second}/comm").read_text().strip() == "innkeeper-guard")
    host.process.kill()
    host.process.wait()
    gone(pidfd)
    assert not (command.runtime / "default" / "control.sock").exists()


def test_a_socket_that_was_left_is_replaced(command, start_host: Start) -> None:
    folder = command.runtime / "default"
    folder.mkdir(mode=0o700)
    (folder / "control.sock").write_text("left")
    start_host().wait_ready()


def test_a_second_host_on_the_same_data_names_the_first(command, start_host: Start) -> None:
    first = start_host()
    first.wait_ready()
    done = command("run", "--host-name", "other", code=1)
    assert f"process {first.process.pid} (default)" in done.stderr
    assert str(command.folder / "data") in done.stderr
    done = command("run", "--data-dir", "elsewhere", code=1)
    assert f"process {first.process.pid}" in done.stderr
    # It never ran.
    assert "has stopped" not in done.stderr
    assert command.json("status")["pid"] == first.process.pid


def test_two_hosts_of_other_names_live_side_by_side(command, start_host: Start) -> None:
    start_host().wait_ready()
    other = start_host("--host-name", "other", "--data-dir", "other")
    command("status", "--wait", DEADLINE, "--host-name", "other")
    assert command.json("status", "--host-name", "other")["pid"] == other.process.pid


def test_a_faulty_plugins_yaml_is_refused_whole_with_all_faults(command) -> None:
    command.write("plugins.yaml", "plugins:\n  toys: [{package: ik-toy}]\n  a: [{pakage: x}]\n  b: [{enabeld: true}]\n")
    done = command("run", code=3)
    assert "plugins.yaml:3:" in done.stderr
    assert "plugins.yaml:4:" in done.stderr
    assert not (command.folder / "data").exists()


def test_with_keep_going_faulty_entries_are_left_out(command, start_host: Start) -> None:
    command.write("plugins.yaml", "plugins:\n  toys: [{package: ik-toy}]\n  a: [{pakage: x}]\n")
    host = start_host("--keep-going")
    host.wait_ready()
    assert [row["state"] for row in command.json("plugins", "list")] == ["ready"]
    assert "plugins.yaml:3:" in host.log.read_text()


def test_a_limit_that_is_none_is_refused(command) -> None:
    command.write("innkeeper.yaml", "limits: {global: {PerWorkflow.ExecutionTimeoutt: 1m}}\n")
    done = command("run", code=3)
    assert "PerWorkflow.ExecutionTimeout" in done.stderr
    assert "innkeeper.yaml" in done.stderr


@pytest.mark.parametrize("start", ["fails", "missing"])
def test_a_bad_provider_is_a_state_and_the_host_goes_on(command, start_host: Start, start: str) -> None:
    if start == "missing":
        command.write("plugins.yaml", "plugins:\n  toys: [{package: ik-toy}]\n  others: [{package: not-there}]\n")
    else:
        command.plugins(", config: {start: fails}")
    start_host().wait_ready()
    row = command.json("plugins", "list")[-1]
    assert row["state"] == "failed"
    assert row["reason"]


def test_messages_that_cannot_be_read_stop_nothing(command, start_host: Start) -> None:
    package = Path(command.environ["PYTHONPATH"]) / "ik_toy"
    with (package / "innkeeper-provider.yaml").open("a") as file:
        file.write("messages: messages.binpb\n")
    (package / "messages.binpb").write_bytes(b"no descriptors")
    host = start_host()
    host.wait_ready()
    assert "a provider's messages cannot be shown" in host.log.read_text()


def test_a_required_provider_that_fails_stops_the_host_and_is_named(command) -> None:
    command.plugins(", required: true, config: {start: fails}")
    done = command("run", code=1)
    assert "toy" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]
    assert "the toy is broken" in done.stderr
    assert not (command.runtime / "default" / "control.sock").exists()


def test_a_provider_that_hangs_in_a_hook_keeps_no_host_from_stopping(command, start_host: Start) -> None:
    command.plugins(", config: {start: blocks}")
    host = start_host()
    until(lambda: command("status", "-o", "json", code=None).returncode == 1)
    assert host.stop(signal.SIGTERM) == 0


def test_a_provider_that_does_not_end_keeps_no_host_from_leaving(command, start_host: Start) -> None:
    command.plugins(", config: {start: clings}")
    host = start_host()
    host.wait_ready()
    host.process.terminate()
    until(lambda: "the host is stopping" in host.log.read_text())
    assert host.stop(signal.SIGTERM) == 1
    assert not (command.runtime / "default" / "control.sock").exists()
    assert "the end of the module type toy" in host.log.read_text() or "the providers" in host.log.read_text()


def test_a_log_that_no_terminal_shows_is_json_lines(command, start_host: Start) -> None:
    host = start_host()
    host.wait_ready()
    host.stop(signal.SIGTERM)
    assert all(json.loads(line)["event"] for line in host.log.read_text().splitlines())


def test_without_plugins_yaml_it_says_where_it_looked(command) -> None:
    (command.folder / "plugins.yaml").unlink()
    assert "INNKEEPER_PLUGINS" in command("run", code=3).stderr


def test_an_ephemeral_host_takes_no_directory_with_something_in_it(command) -> None:
    done = command("run", "--ephemeral", command.folder, code=1)
    assert "needs an empty directory" in done.stderr
    assert (command.folder / "plugins.yaml").exists()

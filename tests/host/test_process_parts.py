"""A host whose provider has a process part: real hosts, real processes, real kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innkeeper.loop.guard_process import read_stat

DEADLINE = 60.0
SLOW = "restart: {backoff_first_seconds: 8, backoff_most_seconds: 8}"
QUICK = "restart: {backoff_first_seconds: 0.01, backoff_most_seconds: 0.05}"

Start = Callable[..., Any]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return the commands of an environment of its own, which has everything of this one and the toys' commands."""
    folder = tmp_path / "environment"
    commands = folder / "bin"
    commands.mkdir(parents=True)
    real = Path(sys.executable).parent
    (commands / "python").symlink_to((real / "python").resolve())
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    beside = [path for path in site.getsitepackages() if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in [*beside, str(tmp_path / "site")]]
    (packages / "beside.pth").write_text("\n".join(lines) + "\n")
    for name, module in (("innkeeper", "innkeeper.__main__"), ("ik-worker-hands", "ik_worker.hands")):
        program = commands / name
        program.write_text(f"#!{commands / 'python'}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        program.chmod(0o755)
    return commands


@pytest.fixture
def worked(command: Any, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the command, with both toys in plugins.yaml, in the environment above."""
    here = sys.modules[type(command).__module__]
    here.install(command.folder.parent / "site", Path(__file__).parent / "toy" / "ik_worker")
    here.age(command.folder.parent / "site")
    monkeypatch.setattr(here, "INNKEEPER", environment / "innkeeper")
    write(command)
    return command


def write(command: Any, options: str = QUICK) -> None:
    command.write(
        "plugins.yaml",
        "plugins:\n  toys:\n    - package: ik-toy\n"
        f"  workers:\n    - {{package: ik-worker, grants: [artifacts@1.0.0], {options}}}\n",
    )


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
    pytest.fail("it did not come about")


def worker(command: Any) -> dict[str, Any]:
    """Return the provider with a process part, as it is listed."""
    return next(row for row in command.json("plugins", "list") if row["id"] == "worker")


def hands(command: Any) -> dict[str, Any]:
    """Return its process part."""
    return next(part for part in worker(command)["parts"] if part["name"] == "hands")


def values(command: Any, name: str) -> list[str]:
    """Return the results of a workflow's executions that succeeded, newest first."""
    rows = command.json("executions", "list", "--workflow", name)
    shown = [row for row in rows if row["status"] == "success"]
    return [row["result"]["value"] for row in shown]


def marked(mark: bytes) -> list[int]:
    """Return the processes that belong to a host, by what is in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environ = (folder / "environ").read_bytes()
            except OSError:
                continue
            stat = read_stat(int(folder.name))
            if mark in environ.split(b"\0") and stat is not None and stat.state not in "ZX":
                found.append(int(folder.name))
    return found


def mark_of(pid: int) -> bytes:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next(item for item in environ if item.startswith(b"INNKEEPER_GUARDED="))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_parts_are_listed_with_their_processes(worked: Any, start_host: Start) -> None:
    offline = worker(worked)
    assert (offline["state"], offline["mode"]) == ("stopped", "host")
    assert [(p["name"], p["mode"], p["state"], p["pid"]) for p in offline["parts"]] == [
        ("host", "host", "stopped", None),
        ("hands", "loop", "stopped", None),
    ]
    assert worked.json("plugins", "info", "worker")["capabilities"] == ["work@1.0.0", "pulse@1.0.0"]
    running = start_host("--dev")
    running.wait_ready()
    row = worker(worked)
    host, process = row["parts"]
    assert (row["state"], row["reason"]) == ("ready", "")
    assert (host["name"], host["pid"], host["generation"]) == ("host", running.process.pid, None)
    assert (process["mode"], process["state"], process["generation"]) == ("loop", "ready", 1)
    assert Path(f"/proc/{process['pid']}").is_dir()
    title, *table = worked("plugins", "list").stdout.splitlines()
    assert title.split() == ["ID", "PART", "MODE", "STATE", "PID", "GENERATION", "PACKAGE", "VERSION", "REASON"]
    assert [line.split() for line in table] == [
        ["toy", "host", "host", "ready", str(host["pid"]), "ik-toy", "1.0"],
        ["worker", "host", "host", "ready", str(host["pid"]), "ik-worker", "1.0"],
        ["worker", "hands", "loop", "ready", str(process["pid"]), "1", "ik-worker", "1.0"],
    ]
    status = worked.json("status")
    assert (status["providers"], status["processes"]) == ({"ready": 2}, {"ready": 1})
    info = worked.json("plugins", "info", "worker")
    assert info == {**worker(worked), "capabilities": ["pulse@1.0.0", "work@1.0.0"]}
    assert "hands" in worked("plugins", "info", "worker").stdout
    assert "did you mean worker?" in worked("plugins", "info", "wroker", code=1).stderr


def test_a_killed_process_comes_back_and_its_triggers_beat_again(worked: Any, start_host: Start) -> None:
    start_host("--dev").wait_ready()
    worked("workflow", "deploy", worked.write("x.toy", {"triggers": ["pulse@1.0.0"], "value": "event"}), "--name", "p")
    first = hands(worked)["pid"]
    until(lambda: first in values(worked, "p"))
    os.kill(first, signal.SIGKILL)
    second = until(lambda: worker(worked)["state"] == "ready" and hands(worked)["generation"] == 2 and hands(worked))
    until(lambda: second["pid"] in values(worked, "p"))
    assert worked.json("workflow", "show", "p")["state"] == "running"


def test_a_bound_workflow_waits_for_its_provider_and_starts_by_itself(worked: Any, start_host: Start) -> None:
    write(worked, SLOW)
    start_host("--dev").wait_ready()
    os.kill(hands(worked)["pid"], signal.SIGKILL)
    until(lambda: worker(worked)["state"] == "restarting")
    source = worked.write("x.toy", '"work"')
    deployed = worked.json("workflow", "deploy", source, "--name", "w", "--attributes", '{"worked": true}')
    assert deployed["state"] == "deferred"
    assert "worker is restarting: the process hands was ended by SIGKILL" in deployed["reason"]
    until(lambda: worker(worked)["state"] == "ready")
    back = time.monotonic()
    until(lambda: worked.json("workflow", "show", "w")["state"] == "running")
    # Of itself it would be tried again every twelve seconds.
    assert time.monotonic() - back < 6
    shown = worked.json("workflow", "show", "w")
    assert shown["module"] == "worked"
    until(lambda: values(worked, "w"))
    assert values(worked, "w")[-1] == f'"work" by {hands(worked)["pid"]}'


def test_a_workflow_that_is_bound_to_a_disabled_provider_says_where_it_is_disabled(
    worked: Any, start_host: Start
) -> None:
    source = worked.write("x.toy", '"work"')
    for entry, said in (
        ("\n    - {package: ik-worker, enabled: false}", "disabled in plugins.yaml, at {file}:5:7"),
        (" []", "installed and not named in plugins.yaml"),
    ):
        worked.write("plugins.yaml", f"plugins:\n  toys:\n    - package: ik-toy\n  workers:{entry}\n")
        running = start_host("--dev")
        running.wait_ready()
        deploy = ("workflow", "deploy", source, "--name", "w", "--attributes", '{"worked": true}')
        deployed = worked.json(*deploy)
        assert deployed["state"] == "deferred"
        expected = "its provider worker is " + said.format(file=worked.folder / "plugins.yaml")
        assert expected in deployed["reason"]
        assert '{"worked": true}' in worked("workflow", "show", "w").stdout
        assert running.stop(signal.SIGTERM) == 0


def test_a_simulated_workflow_s_binary_is_read_while_it_lives(worked: Any) -> None:
    source = worked.write("x.toy", '"simulated"')
    shown = worked.json("workflow", "run", source, "--attributes", '{"worked": true}')
    assert shown["result"]["value"].startswith('"simulated" by ')


def test_a_refused_attribute_is_refused_with_the_reason_of_its_manifest(worked: Any, start_host: Start) -> None:
    start_host("--dev").wait_ready()
    source = worked.write("x.toy", {})
    deploy = ("workflow", "deploy", source, "--name", "x", "--attributes")
    for attributes in ('{"worked_by_hand": true}', '{"worked_by_hand": {"deep": [null]}}', '{"worked_by_hand": false}'):
        assert "nobody works by hand any more" in worked(*deploy, attributes, code=1).stderr
    for attributes, said in (
        ('{"worked": true, "worked": false}', "worked"),
        ('{"Worked": true}', "did you mean worked"),
        ('{"worked": "yes"}', "worked"),
        ('{"worked": {"worked": true}}', "worked"),
        ('[{"worked": true}]', "object"),
        ("null", "object"),
        ('{"worked": true} x', "attributes"),
    ):
        assert said in worked(*deploy, attributes, code=1).stderr, attributes
    assert worked.json("workflow", "list") == []
    assert (
        "nobody works by hand"
        in worked("workflow", "run", source, "--attributes", '{"worked_by_hand": 1}', code=1).stderr
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_host_is_left(worked: Any, start_host: Start, ending: int) -> None:
    running = start_host("--dev")
    running.wait_ready()
    process = hands(worked)["pid"]
    mark = mark_of(process)
    assert process in marked(mark)
    code = running.stop(ending)
    assert code == (0 if ending == signal.SIGTERM else -signal.SIGKILL)
    until(lambda: not marked(mark))
    # Not by pathlib: what goes meanwhile is an error to it.
    until(lambda: not [name for _, _, names in os.walk(worked.runtime) for name in names if name != "host.lock"])
    until(lambda: not os.listdir(worked.runtime / "default" / "loop"))


def test_what_is_left_when_the_guard_is_killed_too_the_next_host_removes(worked: Any, start_host: Start) -> None:
    running = start_host("--dev")
    running.wait_ready()
    mark = mark_of(hands(worked)["pid"])
    guard = until(
        lambda: [pid for pid in children(running.process.pid) if comm(pid) == "innkeeper-guard"],
    )[0]
    pidfd = os.pidfd_open(guard)
    # So that it is the last to learn that the host is gone.
    signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    running.stop(signal.SIGKILL)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    until(lambda: not marked(mark))
    sockets = worked.runtime / "default" / "loop"
    left = os.listdir(sockets)
    assert len(left) == 1
    start_host("--dev").wait_ready()
    found = os.listdir(sockets)
    assert len(found) == 1
    assert found != left


def test_nothing_is_left_of_a_process_that_does_not_end_in_a_hurry(worked: Any, start_host: Start) -> None:
    write(worked, "restart: {stop_seconds: 60}, env: {STUBBORN: 1}")
    running = start_host("--dev")
    running.wait_ready()
    process = hands(worked)["pid"]
    mark = mark_of(process)
    # It, and what it has started in a session of its own.
    assert len(marked(mark)) == 2
    running.process.send_signal(signal.SIGTERM)
    until(lambda: "the host is stopping" in running.log.read_text())
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(DEADLINE)
    begun = time.monotonic()
    until(lambda: not marked(mark))
    assert time.monotonic() - begun < 20
    assert "the guard ends them" in running.log.read_text()


def test_a_command_that_is_not_installed_is_told_and_the_rest_goes_on(
    worked: Any, start_host: Start, environment: Path
) -> None:
    (environment / "ik-worker-hands").unlink()
    start_host("--dev").wait_ready()
    row = worker(worked)
    assert row["state"] == "failed"
    assert "pip install ik-worker" in row["reason"]
    assert worked.json("status")["providers"] == {"ready": 1, "failed": 1}
    lines = worked("plugins", "list", "-o", "plain").stdout.splitlines()
    assert all("pip install ik-worker" in line for line in lines if line.startswith("worker"))


def test_listing_starts_and_imports_nothing(worked: Any, environment: Path) -> None:
    here = sys.modules[type(worked).__module__]
    heavy = "{'google', 'grpc', 'cattrs', 'jsonschema', 'packaging', 'ik_worker', 'cryptography', 'sqlalchemy'}"
    # Beside the command, so that both have one search path, and so one index.
    program = environment / "probe"
    program.write_text(
        "import sys; from innkeeper.cli.main import main; main(['plugins', 'list', '-o', 'json']);"
        f"print({{name.split('.')[0] for name in sys.modules}} & {heavy}, file=sys.stderr)"
    )
    here.age(environment.parent)
    worked("plugins", "list")
    done = subprocess.run(
        [environment / "python", program],
        env=worked.environ, cwd=worked.folder, capture_output=True, text=True, check=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "set()"
    assert [part["name"] for part in json.loads(done.stdout)[1]["parts"]] == ["host", "hands"]

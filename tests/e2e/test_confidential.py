"""Confidential workflows: a real host, its LOOP processes, the simulated enclave, and official guests in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import INNKEEPER, Cli, RunningHost

pytestmark = pytest.mark.guests

OWNER = "0000000000000000000000000000000000000000"
SHUT_OUT = "ab" * 20
CANARY = "canary-51f0c2-geheim"
CONFIDENTIAL = '{"confidential": true}'
UNKNOWN = "no-such-thing@1.0.0"
# What no workflow may find, by any spelling.
HIDDEN = [
    "confidential-workflows@1.0.0-alpha",
    "confidential-workflows@1.0.0-0",
    "confidential-workflows@1.0.0",
    "confidential-workflows:label_x@1.0.0-alpha",
    "confidential-relay@1.0.0",
    "vault@1.0.0",
    "vault@1.0.0-0",
    "artifacts@1.0.0",
    "VAULT@1.0.0",
    "vault",
    "",
    "vault@1.0.0\n",
    "x" * 200 + "@1.0.0",
]

PLUGINS = """\
version: 1
plugins:
  wasm: [{package: innkeeper-wasm}]
  cron: [{package: innkeeper-cron, config: {fastestScheduleIntervalSeconds: 1}}]
  consensus: [{package: innkeeper-consensus}]
  vault: [{package: innkeeper-vault}]
  confidential-workflows:
    - package: innkeeper-confidential-workflows
      enabled: %s
      config: {backend: simulated}
      grants: [vault@1.0.0, artifacts@1.0.0]
"""
SETTINGS = f"""\
limits:
  global:
    PerWorkflow:
      ConfidentialWorkflows: {{Enabled: true}}
  owner:
    "{SHUT_OUT}":
      PerWorkflow:
        ConfidentialWorkflows: {{Enabled: false}}
"""


class Confidential:
    """A host with the confidential provider, and what its tests do with it."""

    def __init__(self, host: RunningHost, folder: Path, runtime: Path, guest: Path) -> None:
        self.host = host
        self.cli = host.cli
        self.folder = folder
        self.runtime = runtime
        self.guest = guest

    def enable(self, enabled: bool = True) -> None:
        """Write the file of plugins."""
        (self.folder / "plugins.yaml").write_text(PLUGINS % str(enabled).lower())

    def config(self, **changes: Any) -> Path:
        """Write a configuration of the guest."""
        content = {"schedule": "* * * * * *", "tee": False, "sample": 7, "secrets": [], "calls": []} | changes
        path = self.folder / f"config-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]}.json"
        path.write_text(json.dumps(content))
        return path

    def deploy(self, name: str, *, attributes: str = CONFIDENTIAL, check: int | None = 0, **changes: Any) -> Any:
        """Deploy the guest; return what is shown of it."""
        owner = changes.pop("owner", OWNER)
        done = self.cli(
            "workflow",
            "deploy",
            self.guest,
            "--name",
            name,
            "--owner",
            owner,
            "--config",
            self.config(**changes),
            "--attributes",
            attributes,
            "-o",
            "json",
            check=check,
        )
        return json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}

    def show(self, name: str) -> Any:
        """Return what is known of a workflow."""
        return self.cli.json("workflow", "show", name)

    def executions(self, workflow_id: str, status: str) -> list[Any]:
        """Return a workflow's executions of a status, newest first."""
        return [
            one
            for one in self.cli.json("executions", "list")
            if one["workflow_id"] == workflow_id and one["status"] == status
        ]

    def result(self, workflow_id: str, *, after: str = "") -> Any:
        """Wait for a success that was accepted after a time, and return its result."""

        def found() -> Any:
            ended = [one for one in self.executions(workflow_id, "success") if one["accepted_at"] > after]
            failed = [
                one
                for status in ("failed", "timeout", "error", "in_doubt")
                for one in self.executions(workflow_id, status)
                if not after
            ]
            assert not failed, failed
            return ended[-1] if ended else None

        return self.host.wait(found, "a success")["result"]["value"]

    def once(self, name: str, **changes: Any) -> Any:
        """Deploy the guest, return the result of its first execution, and delete it."""
        shown = self.deploy(name, **changes)
        assert shown["state"] == "running", shown
        try:
            return self.result(shown["workflow_id"])
        finally:
            self.cli("workflow", "pause", shown["workflow_id"], check=None)

    def part(self, name: str) -> Any:
        """Return a part of the confidential provider."""
        (provider,) = [one for one in self.cli.json("plugins", "list") if one["id"] == "confidential-workflows"]
        (part,) = [one for one in provider["parts"] if one["name"] == name]
        return part


def total(text: str) -> str:
    """Return what the guest says of a secret."""
    value = 0
    for char in text:
        value = (value * 31 + ord(char)) % 1000003
    return f"{len(text)} {value}"


@pytest.fixture(scope="module")
def binary(guest: Callable[[str], Path]) -> Path:
    """Return the guest, built."""
    return guest("tests/e2e/guests/confidential")


def _make(folder: Path, runtime: Path, binary: Path) -> Confidential:
    home = folder / "home"
    home.mkdir()
    settings = folder / "innkeeper.yaml"
    settings.write_text(SETTINGS)
    host = RunningHost(Cli(home), folder, folder / "plugins.yaml", runtime, settings)
    made = Confidential(host, folder, runtime, binary)
    made.enable()
    return made


def _end(one: Confidential) -> None:
    if one.host.process is not None:
        one.host.process.kill()
        one.host.process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, binary: Path) -> Iterator[Confidential]:
    """Return a host that runs, with one secret; its tests do not disturb each other."""
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as runtime:
        one = _make(tmp_path_factory.mktemp("confidential"), Path(runtime), binary)
        try:
            one.host.start()
            one.cli("secrets", "set", "KEY", input=CANARY)
            yield one
        finally:
            _end(one)


@pytest.fixture
def own(tmp_path: Path, runtime_dir: Path, binary: Path) -> Iterator[Confidential]:
    """Return a host of the test's own that is not started yet."""
    one = _make(tmp_path, runtime_dir, binary)
    try:
        yield one
    finally:
        _end(one)


# In the enclave.


def test_a_confidential_workflow_fetches_a_secret_and_calls_a_capability(shared: Confidential) -> None:
    shown = shared.deploy("works", secrets=[{"id": "KEY"}, {"id": "KEY", "namespace": "main"}])
    assert (shown["state"], shown["module"]) == ("running", "confidential")
    value = shared.result(shown["workflow_id"])
    shared.cli("workflow", "pause", shown["workflow_id"])
    assert value["agreed"] == 7
    assert value["secrets"] == [total(CANARY)] * 2, "the namespace that is not given is main"


def test_secrets_that_there_are_not_are_told_by_name_and_the_others_are_given(shared: Confidential) -> None:
    value = shared.once("missing", secrets=[{"id": "NOT"}, {"id": "KEY", "namespace": "other"}, {"id": "KEY"}])
    missing, elsewhere, found = value["secrets"]
    assert "NOT" in missing
    assert "not found" in missing
    assert "not found" in elsewhere
    assert found == total(CANARY)


def test_what_a_pre_hook_forbids_is_not_released(shared: Confidential) -> None:
    value = shared.once("restricted", allowed="KEY", secrets=[{"id": "KEY"}, {"id": "OTHER"}])
    allowed, forbidden = value["secrets"]
    assert allowed == total(CANARY)
    assert 'secret "OTHER" in namespace "main" denied by user pre-hook restrictions' in forbidden


def test_requests_for_secrets_are_counted_as_in_the_open(shared: Confidential) -> None:
    value = shared.once("greedy", secrets=[{"id": "KEY"}] * 7)
    assert value["secrets"][:5] == [total(CANARY)] * 5
    assert all("limit is 5" in error for error in value["secrets"][5:])


def test_another_owners_secrets_are_not_there(shared: Confidential) -> None:
    value = shared.once("stranger", owner="cd" * 20, secrets=[{"id": "KEY"}])
    assert "not found" in value["secrets"][0]


def test_what_no_workflow_may_call_is_for_a_confidential_one_what_it_is_in_the_open(shared: Confidential) -> None:
    ids = [UNKNOWN, *HIDDEN]
    sealed = shared.once("hostile-sealed", calls=ids)["calls"]
    plain = shared.once("hostile-plain", attributes="{}", calls=ids)["calls"]
    assert sealed == plain, "byte for byte"
    unknown = sealed[0]
    assert UNKNOWN in unknown
    for id_, error in zip(ids, sealed, strict=True):
        assert error.replace(id_, UNKNOWN) == unknown or (id_ == "" and "not found" in error), id_


def test_a_trigger_that_requires_a_tee_runs_in_the_enclave_without_an_attribute(shared: Confidential) -> None:
    shown = shared.deploy("tee", attributes="{}", tee=True, secrets=[{"id": "KEY"}])
    assert (shown["state"], shown["module"]) == ("running", "wasm")
    value = shared.result(shown["workflow_id"])
    shared.cli("workflow", "pause", shown["workflow_id"])
    assert value["secrets"] == [total(CANARY)], "in the open there is no vault"
    told = [json.loads(line) for line in shared.host.log.read_text().splitlines() if "a workflow runs" in line]
    (triggers,) = [one["triggers"] for one in told if one["workflow_id"] == shown["workflow_id"]]
    assert triggers == ["cron-trigger@1.0.0 on confidential"]


def test_the_simulator_runs_a_confidential_workflow_where_the_host_would(own: Confidential) -> None:
    shown = own.cli.json("workflow", "run", own.guest, "--config", own.config(), "--attributes", CONFIDENTIAL)
    assert shown["result"]["value"]["agreed"] == 7
    assert shown["logs"] == [], "what a confidential guest logs does not leave the enclave"


def test_in_the_open_a_workflow_never_meets_the_enclave_or_the_vault(shared: Confidential) -> None:
    value = shared.once("open", attributes='{"confidential": false}', secrets=[{"id": "KEY"}])
    assert value["agreed"] == 7
    assert value["secrets"][0].startswith("error: ")
    assert total(CANARY) not in str(value)


def test_nothing_of_a_secret_is_anywhere_outside(shared: Confidential) -> None:
    value = shared.once("canary", secrets=[{"id": "KEY"}])
    assert value["secrets"] == [total(CANARY)], "the guest had it, and has logged it"
    looked = 0
    for root in (shared.folder, shared.runtime):
        for path in root.rglob("*"):
            if path.is_file():
                looked += 1
                assert CANARY.encode() not in path.read_bytes(), path
    assert looked > 5
    assert "of a confidential guest were dropped" in shared.host.log.read_text()


# Who may not.


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ('{"confidential": "true"}', "attribute confidential is not what"),
        ('{"confidential": 1}', "attribute confidential is not what"),
        ('{"Confidential": true}', "did you mean confidential"),
        ('{"confidential": true', "not valid"),
        ("null", "no JSON object"),
        ('{"confidential": true, "confidential": false}', "given twice"),
        ('{"confidential": true, "vault_don_secrets": []}', "secrets are fetched at run time"),
    ],
)
def test_attributes_that_are_not_understood_are_refused(shared: Confidential, attributes: str, text: str) -> None:
    before = len(shared.cli.json("workflow", "list"))
    done = shared.cli(
        "workflow",
        "deploy",
        shared.guest,
        "--name",
        "malformed",
        "--config",
        shared.config(),
        "--attributes",
        attributes,
        check=None,
    )
    assert done.returncode != 0
    assert text in done.stderr
    assert len(shared.cli.json("workflow", "list")) == before


def test_a_workflow_whose_gate_is_shut_does_not_run_and_says_why(shared: Confidential) -> None:
    shared.deploy("shut", owner=SHUT_OUT, check=1)
    (shown,) = [one for one in shared.cli.json("workflow", "list") if one["name"] == "shut"]
    assert shown["state"] == "failed"
    assert "confidential-workflows capability is disabled by settings" in shown["reason"]


def test_from_confidential_to_open_only_with_permission(shared: Confidential) -> None:
    shown = shared.deploy("changes")
    assert shown["module"] == "confidential"
    done = shared.deploy("changes", attributes="{}", check=None)
    assert "allow-plain" in str(done)
    assert shared.show("changes")["module"] == "confidential"
    shared.cli("workflow", "pause", "changes")


# When something is not as it should be.


def test_a_binary_that_was_changed_where_it_is_stored_does_not_run(own: Confidential) -> None:
    own.host.start()
    shown = own.deploy("tampered", secrets=[])
    own.result(shown["workflow_id"])
    database = sqlite3.connect(own.folder / "data" / "innkeeper.db", timeout=30)
    with database:
        (stored,) = database.execute("SELECT workflow FROM workflow_specs_v2").fetchone()
        database.execute("UPDATE workflow_specs_v2 SET workflow = ?", (stored[:-2] + "ff",))
    database.close()
    # The enclave that has the good bytes goes; the next one fetches them again.
    os.kill(own.part("confidential-workflows")["pid"], signal.SIGKILL)
    failed = own.host.wait(
        lambda: [
            one
            for one in own.executions(shown["workflow_id"], "failed")
            if "binary hash mismatch" in one["result"]["error"]
        ],
        "a refusal of the binary",
    )
    assert failed


def test_after_a_crash_of_its_process_a_confidential_workflow_goes_on_in_the_next_generation(
    own: Confidential,
) -> None:
    own.host.start()
    own.cli("secrets", "set", "KEY", input=CANARY)
    shown = own.deploy("survivor", secrets=[{"id": "KEY"}])
    own.result(shown["workflow_id"])
    before = own.part("confidential-workflows")
    assert before["generation"] == 1
    os.kill(before["pid"], signal.SIGKILL)
    after = own.host.wait(
        lambda: (now := own.part("confidential-workflows"))["generation"] == 2 and now["state"] == "ready" and now,
        "the second generation",
    )
    assert after["pid"] != before["pid"]
    value = own.result(shown["workflow_id"], after=after["since"])
    assert value["secrets"] == [total(CANARY)], "the vault trusts the same measurement again"


def test_without_its_provider_a_confidential_workflow_waits_and_never_runs_elsewhere(own: Confidential) -> None:
    own.enable(False)
    own.host.start()
    own.deploy("waits", check=None)
    shown = own.show("waits")
    assert shown["state"] == "deferred"
    assert "confidential" in shown["reason"]
    assert own.cli.json("executions", "list") == []
    own.host.stop()
    own.enable()
    own.host.start()
    own.host.wait(lambda: own.show("waits")["state"] == "running", "the workflow's start")
    assert own.show("waits")["module"] == "confidential"
    assert own.result(shown["workflow_id"])["agreed"] == 7
    own.host.stop()
    own.enable(False)
    own.host.start()
    shown = own.host.wait(
        lambda: (now := own.show("waits"))["state"] == "deferred" and now, "what it needs being gone again"
    )
    assert "confidential" in shown["reason"]


def test_outside_development_the_simulation_does_not_start(own: Confidential) -> None:
    log = own.folder / "production.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(INNKEEPER), *own.cli.base, "run"],
            env=own.cli.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    own.host.process = process
    own.host.log = log
    own.host.wait(lambda: own.cli("status", "-o", "json", check=None).returncode == 0, "the host")
    (provider,) = own.host.wait(
        lambda: [
            one
            for one in own.cli.json("plugins", "list")
            if one["id"] == "confidential-workflows" and one["state"] == "failed"
        ],
        "the refusal",
    )
    assert "the backend simulated protects nothing" in provider["reason"]
    assert not re.search(r"enclave i-INSECURE-SIM-\S+ has booted", log.read_text())
    own.deploy("refused", check=None)
    assert own.show("refused")["state"] == "deferred"

"""The demonstration: eight steps, on one host.

Rules of this module:

1. Every claim is checked from outside: results are computed again, processes are read from ``/proc``, errors are
   compared byte for byte, and what the host says of itself is only recorded.
2. What an attacker would do is done: a guest asks for what is internal, the stored binary is replaced, an attestation
   document is presented twice, a process is killed while those that should end with it cannot.
3. Nothing waits for what it does not need: the host starts while the examples are built, and each of those is deployed
   as soon as it is there.
4. A step that cannot go on ends the demonstration, but a host that runs is stopped and searched for all the same.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from innkeeper_demo.board import Board, Step
from innkeeper_demo.crash import Crash
from innkeeper_demo.enclave import enclave_parts, provider_rows
from innkeeper_demo.errors import StepError
from innkeeper_demo.examples import Examples, examples_of
from innkeeper_demo.hosting import DemoHost
from innkeeper_demo.interrupts import held
from innkeeper_demo.record import DemoRecord, ExecutionRecord, InternalCall, LeftProcess
from innkeeper_demo.repository import Repository
from innkeeper_demo.tampering import with_section
from innkeeper_demo.watching import SUCCESS, Watcher
from innkeeper_demo.workflows import (
    INTERNAL_IDS,
    SECRET_NAME,
    UNKNOWN_ID,
    Sealed,
    artifacts,
    attempts_of,
    hostile_config,
    plain_config,
    result_of,
)
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["Demonstration"]

_SUCCESSES: Final = 3
# What takes some seconds gets a minute: a machine may be busy with something else.
_RUN_SECONDS: Final = 60.0
_HOSTILE_SECONDS: Final = 30.0
_DRILL_SECONDS: Final = 30.0
_GONE_SECONDS: Final = 5.0

# A module's name, run in a process of its own: a provider imports the SDK, not another provider.
_DRILL: Final = "innkeeper_confidential_workflows.drill"
_CONFIDENTIAL: Final = {"confidential": True}


class Demonstration:
    """Run the steps.

    Args:
        repository: The clone.
        environ: The environment of what is started.
        board: Is told how it goes.

    Attributes:
        record: What was found.
        last_words: The end of the host's log, if something did not hold.
    """

    def __init__(self, repository: Repository, environ: Mapping[str, str], board: Board) -> None:
        self.record = DemoRecord()
        self.last_words = ""
        self._repository = repository
        self._environ = environ
        self._board = board
        self._sealed = Sealed(secrets.token_hex(32))
        self._tampered_id = ""

    def run(self, *, packages: Path | None = None) -> None:
        """Run all of it; what was found is in ``record`` and on the board.

        Args:
            packages: Where builds keep packages and caches; None is the clone's own place.
        """
        began = time.monotonic()
        # What went wrong is on the board.
        with suppress(StepError), ExitStack() as stack:
            examples = stack.enter_context(examples_of(self._repository, self._environ, packages, self._board))
            with held():
                # Its directory is made and known to the stack, or neither.
                host = stack.enter_context(DemoHost(self._repository.plugins, self._environ))
            self._on(host, examples)
        self.record.seconds = round(time.monotonic() - began, 3)
        self.record.ok = self._board.held

    def _on(self, host: DemoHost, examples: Examples) -> None:
        try:
            with ExitStack() as stack:
                with self._board.step(Step.START):
                    self._board.say("starting a host")
                    host.start()
                    client = stack.enter_context(ControlClient(host.socket))
                    watcher = stack.enter_context(Watcher(client))
                    self._look_at_providers(client)
                with suppress(StepError):
                    self._steps(host, client, watcher, examples)
            with self._board.step(Step.STOP):
                self._stop(host)
        finally:
            if not self._board.held:
                self.last_words = host.last_words()

    def _steps(self, host: DemoHost, client: ControlClient, watcher: Watcher, examples: Examples) -> None:
        with self._board.step(Step.DEPLOY):
            self._deploy(host, client, examples)
        with self._board.step(Step.RUN):
            self._run(host, client, watcher)
        with self._board.step(Step.TRESPASS):
            self._trespass(client, watcher, examples)
        with self._board.step(Step.REPLAY):
            self._replay()
        with self._board.step(Step.CRASH):
            self._crash(host, client, watcher, examples)

    def _look_at_providers(self, client: ControlClient) -> None:
        providers = client.providers()
        self.record.providers = provider_rows(providers)
        for provider in providers:
            if provider.state != "ready":
                raise StepError(f"the provider {provider.id} is {provider.state}: {provider.reason}")
        self._board.conclude(f"{len(providers)} providers, {len(self.record.providers)} parts")

    def _deploy(self, host: DemoHost, client: ControlClient, examples: Examples) -> None:
        self._board.say("setting a secret")
        host.run("secrets", "set", SECRET_NAME, stdin=self._sealed.secret.encode())
        self._board.say("waiting for the build of clock")
        clock = examples.binary("clock")
        self._board.say("deploying a workflow that runs in the open")
        plain = client.deploy(artifacts("clock", clock, plain_config()))
        self.record.plain.workflow_id = plain.workflow_id
        self._board.say("waiting for the build of sealed")
        sealed = examples.binary("sealed")
        self._board.say("deploying one that runs in the enclave")
        confidential = client.deploy(artifacts("sealed", sealed, self._sealed.config(), attributes=_CONFIDENTIAL))
        self.record.confidential.workflow_id = confidential.workflow_id
        self.record.confidential.binary_sha256 = confidential.binary_sha256
        self._board.say("deploying another, whose stored binary will be replaced")
        victim = client.deploy(
            artifacts("tampered", with_section(sealed, "deployed"), self._sealed.config(), attributes=_CONFIDENTIAL)
        )
        self._tampered_id = victim.workflow_id
        if confidential.binary_sha256 != hashlib.sha256(sealed).hexdigest():
            self._board.problem("the host has stored another binary than was deployed")
        for workflow, module in ((plain, "wasm"), (confidential, "confidential"), (victim, "confidential")):
            if workflow.module != module:
                self._board.problem(
                    f"the workflow {workflow.name} runs on the module type {workflow.module or '(none)'}, "
                    f"not on {module} ({workflow.state}{workflow.reason and ': ' + workflow.reason})"
                )
        self._board.conclude("a secret, a plain and two confidential workflows")

    def _run(self, host: DemoHost, client: ControlClient, watcher: Watcher) -> None:
        plain, confidential = self.record.plain.workflow_id, self.record.confidential.workflow_id
        pids: set[int] = set()

        def done() -> bool:
            for execution in (e for id_ in (plain, confidential, self._tampered_id) for e in watcher.finished(id_)):
                if execution.status != SUCCESS:
                    raise StepError(f"an execution ended as {execution.status}: {result_of(execution).get('error')}")
            table = host.family.look()
            # Looked at after each change, also of those that run: some of these processes live for milliseconds.
            pids.update(process.pid for process in enclave_parts(client.providers(), table).enclave(table))
            counts = [len(watcher.successes(workflow)) for workflow in (plain, confidential)]
            self._board.say(f"{counts[0]} executions in the open, {counts[1]} in the enclave")
            return min(counts) >= _SUCCESSES and bool(watcher.successes(self._tampered_id))

        watcher.wait(
            done,
            _RUN_SECONDS,
            f"{_SUCCESSES} successful executions of each",
            why=lambda: _why(client, watcher, (plain, confidential, self._tampered_id)),
        )
        self.record.confidential.enclave_pids = sorted(pids)
        self._take_executions(watcher)
        if not pids:
            self._board.problem("no process was seen below the confidential LOOP process or its launcher")

    def _trespass(self, client: ControlClient, watcher: Watcher, examples: Examples) -> None:
        self._board.say("waiting for the build of hostile")
        binary = examples.binary("hostile")
        self._board.say("deploying a workflow that asks for what is internal")
        hostile = client.deploy(artifacts("hostile", binary, hostile_config()))
        watcher.wait(
            lambda: bool(watcher.successes(hostile.workflow_id)),
            _HOSTILE_SECONDS,
            "an execution of the hostile workflow",
            why=lambda: _why(client, watcher, (hostile.workflow_id,)),
        )
        attempts = {a.id: a for a in attempts_of(result_of(watcher.successes(hostile.workflow_id)[0]))}
        client.delete(pb.WorkflowSelector(workflow=hostile.workflow_id))
        if attempts.keys() != {*INTERNAL_IDS, UNKNOWN_ID}:
            raise StepError("the hostile workflow did not try every id", actual=", ".join(attempts))
        unknown = attempts[UNKNOWN_ID]
        self.record.unknown_error = unknown.error
        self.record.internal_calls = [
            InternalCall(id_, attempts[id_].refused, attempts[id_].error) for id_ in INTERNAL_IDS
        ]
        if not unknown.refused or UNKNOWN_ID not in unknown.error:
            self._board.problem(f"the error for an unknown capability does not name it: {unknown.error!r}")
        for call in self.record.internal_calls:
            if not call.refused:
                self._board.problem(f"a workflow called {call.id}")
            elif call.error.replace(call.id, UNKNOWN_ID).encode() != unknown.error.encode():
                self._board.problem(f"the error for {call.id} tells that there is such a capability: {call.error!r}")
        self._board.conclude(f"{len(INTERNAL_IDS)} internal ids asked for, each answered as one that does not exist")

    def _replay(self) -> None:
        self._board.say("presenting an attestation document twice")
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-I", "-m", _DRILL],
                env=dict(self._environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_DRILL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StepError(f"the drill does not end in {_DRILL_SECONDS:.0f} s") from None
        try:
            verdicts = json.loads(done.stdout)["verdicts"]
        except (ValueError, KeyError, TypeError):
            raise StepError(f"the drill failed: {done.stderr.decode('utf-8', 'replace').strip()}") from None
        wrong = [v for v in verdicts if v["verdict"] != v["expected"]]
        for v in wrong:
            self._board.problem(f"the verifier answered to {v['case']} with {v['verdict']}, not with {v['expected']}")
        if done.returncode != 0 and not wrong:
            self._board.problem(f"the drill ended with {done.returncode}")
        self._board.conclude("a document is taken once, and only for the challenge that it answers")

    def _crash(self, host: DemoHost, client: ControlClient, watcher: Watcher, examples: Examples) -> None:
        self._board.say("waiting for a moment between two executions")
        confidential = self.record.confidential.workflow_id
        crash = Crash(
            host=host,
            client=client,
            watcher=watcher,
            sealed_id=confidential,
            tampered_id=self._tampered_id,
            binary=with_section(examples.binary("sealed"), "replaced"),
            problem=self._board.problem,
        )
        killed = crash.kill()
        known = {e.execution_id for workflow in (confidential, self._tampered_id) for e in watcher.executions(workflow)}
        self._board.say("killed; waiting for an execution in the next generation")
        parts = crash.recover(killed, known)
        self._take_executions(watcher)
        self.record.providers = provider_rows(client.providers())
        self._board.conclude(f"generation {parts.generation} has run; a replaced binary was refused by its digest")

    def _stop(self, host: DemoHost) -> None:
        self._board.say("stopping the host")
        code = host.stop()
        if code != 0:
            self._board.problem(f"the host ended with {code}")
        left = self.record.leftovers
        left.processes = [LeftProcess(p.pid, p.name) for p in host.family.await_end(_GONE_SECONDS)]
        left.sockets, left.files = host.left()
        for what, found in (
            ("processes", [f"{p.pid} ({p.name})" for p in left.processes]),
            ("sockets", left.sockets),
            ("files", left.files),
            ("files with the secret in them", host.holding(self._sealed.secret.encode())),
        ):
            if found:
                self._board.problem(f"the host has left {what}: {', '.join(found)}")
        self._board.conclude("no process, no socket, no file of the host is left")

    def _take_executions(self, watcher: Watcher) -> None:
        """Record the successes, and note every execution that ended otherwise or came to something wrong."""
        for record in (self.record.plain, self.record.confidential):
            finished = watcher.finished(record.workflow_id)
            record.executions = [
                ExecutionRecord(e.execution_id, e.status, result_of(e)) for e in finished if e.status == SUCCESS
            ]
            for execution in finished:
                if execution.status != SUCCESS:
                    error = result_of(execution).get("error")
                    self._board.problem(
                        f"the execution {execution.execution_id[:8]}… ended as {execution.status}: {error}"
                    )
        results = [execution.result for execution in self.record.confidential.executions]
        faults = [fault for result in results if (fault := self._sealed.fault(result)) is not None]
        for fault in faults:
            self._board.problem(f"a result of the confidential workflow is wrong: {fault}")
        if not faults and self._sealed.repeated(results):
            self._board.problem("two executions of the confidential workflow have the same result")


def _why(client: ControlClient, watcher: Watcher, workflow_ids: tuple[str, ...]) -> str:
    """Return what keeps some workflows from succeeding, as far as it is known."""
    said = []
    for workflow_id in workflow_ids:
        if watcher.successes(workflow_id):
            continue
        workflow = client.workflow(pb.WorkflowSelector(workflow=workflow_id))
        text = f"; {workflow.name} is {workflow.state}" + (f" ({workflow.reason})" if workflow.reason else "")
        finished = watcher.finished(workflow_id)
        if finished:
            text += f", its last execution ended as {finished[-1].status}: {result_of(finished[-1]).get('error')}"
        said.append(text)
    return "".join(said)

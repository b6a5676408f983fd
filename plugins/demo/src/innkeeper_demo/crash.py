"""The step in which the confidential LOOP process is killed, and a stored binary replaced.

Rules of this module:

1. It happens between two executions: both workflows that run in the enclave have ended this second's, and the next
   second is far enough. What is then lost would be the host's fault, not the demonstration's.
2. The launcher and the enclave's monitor are stopped first: if they are gone afterwards, they were ended, and did not
   end by themselves.
3. The binary is replaced just before the kill. The running generation needs it no more; the next one fetches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from attrs import frozen

from innkeeper_demo.enclave import EnclaveParts, enclave_parts
from innkeeper_demo.errors import StepError
from innkeeper_demo.hosting import DemoHost
from innkeeper_demo.processes import Process, process_table
from innkeeper_demo.tampering import replace_binary
from innkeeper_demo.watching import SUCCESS, Watcher
from innkeeper_demo.workflows import result_of
from innkeeper_sdk.control import ControlClient
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["Crash", "Killed"]

_QUIET_SECONDS: Final = 30.0
_RELAUNCH_SECONDS: Final = 60.0
# Of each second, at whose beginning all workflows tick: what comes after it is too near to the next one.
_QUIET_UNTIL: Final = 0.8

_MISMATCH: Final = "binary hash mismatch"


@frozen
class Killed:
    """A generation that was killed: its number, and its processes, all of which must end."""

    generation: int
    processes: tuple[Process, ...]


@frozen
class Crash:
    """Kill the process, and see what comes of it.

    Attributes:
        host: Whose it is.
        client: Speaks to the host.
        watcher: Follows its executions.
        sealed_id: The workflow that must go on.
        tampered_id: The one whose binary is replaced, which must not.
        binary: The replacement.
        problem: Called with what does not hold.
    """

    host: DemoHost
    client: ControlClient
    watcher: Watcher
    sealed_id: str
    tampered_id: str
    binary: bytes
    problem: Callable[[str], None]

    def kill(self) -> Killed:
        """Do it, and return what was killed, or must now be ended.

        Raises:
            StepError: It cannot be done.
        """
        self.watcher.wait(self._quiet, _QUIET_SECONDS, "a moment between two executions")
        table = self.host.family.look()
        parts = enclave_parts(self.client.providers(), table)
        replace_binary(self.host.database, self.tampered_id, self.binary)
        parts.kill(table)
        return Killed(parts.generation, (parts.parent, parts.launcher, *parts.enclave(table)))

    def recover(self, killed: Killed, known: set[str]) -> EnclaveParts:
        """Wait until the next generation has done what it must and refused what it must not; return it.

        Args:
            killed: What was killed.
            known: The executions before.

        Raises:
            StepError: It does not come about.
        """

        def since(executions: list[pb.Execution]) -> list[pb.Execution]:
            return [execution for execution in executions if execution.execution_id not in known]

        self.watcher.wait(
            lambda: all(since(self.watcher.finished(id_)) for id_ in (self.sealed_id, self.tampered_id)),
            _RELAUNCH_SECONDS,
            "an execution after the crash",
            why=self._down,
        )
        first, *_ = since(self.watcher.finished(self.sealed_id))
        if first.status != SUCCESS:
            raise StepError(f"after the crash the confidential workflow fails: {result_of(first).get('error')}")
        for execution in since(self.watcher.finished(self.tampered_id)):
            if execution.status == SUCCESS:
                self.problem("a workflow ran whose stored binary had been replaced")
            elif _MISMATCH not in (error := str(result_of(execution).get("error"))):
                self.problem(f"a replaced binary was refused for another reason than its digest: {error}")
        table = self.host.family.look()
        parts = enclave_parts(self.client.providers(), table)
        if parts.generation != killed.generation + 1:
            self.problem(f"the process is in generation {parts.generation}, not in {killed.generation + 1}")
        if not parts.enclave(table):
            self.problem("the new generation has no enclave")
        self._check_ended(killed)
        return parts

    def _quiet(self) -> bool:
        second = int(time.time())
        for workflow_id in (self.sealed_id, self.tampered_id):
            executions = self.watcher.executions(workflow_id)
            if self.watcher.live(workflow_id) or not executions or executions[-1].accepted_at.seconds != second:
                return False
        return time.time() % 1 < _QUIET_UNTIL

    def _check_ended(self, killed: Killed) -> None:
        table = process_table()
        for process in killed.processes:
            if process.pid in table and table[process.pid].start == process.start:
                self.problem(f"{process.pid} ({process.name}) of the killed generation is still there")

    def _down(self) -> str:
        return "".join(
            f"; {part.name} is {part.state}" + (f" ({part.reason})" if part.reason else "")
            for provider in self.client.providers()
            for part in provider.parts
            if part.state != "ready"
        )

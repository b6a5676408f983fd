"""The parts of the provider of confidential workflows, seen from outside.

Rules of this module: what the host says of its parts is asked from the host, what runs below them is read from
``/proc``; neither is believed for the other.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Final

from attrs import frozen

from innkeeper_demo.errors import StepError
from innkeeper_demo.processes import Process, descendants, send_signal
from innkeeper_demo.record import ProviderRow
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["PROVIDER", "EnclaveParts", "enclave_parts", "provider_rows"]

PROVIDER: Final = "confidential-workflows"
_PARENT: Final = "confidential-workflows"
_LAUNCHER: Final = "launcher"


def provider_rows(providers: Iterable[pb.Provider]) -> list[ProviderRow]:
    """Return a row per host part and process part, in the order of plugins.yaml; a helper is no part of its own."""
    return [
        ProviderRow(
            id=provider.id,
            mode=part.mode,
            state=part.state,
            pid=part.pid if part.HasField("pid") else None,
            generation=part.generation if part.HasField("generation") else None,
        )
        for provider in providers
        for part in provider.parts
        if part.mode != "helper"
    ]


@frozen
class EnclaveParts:
    """One generation of the confidential LOOP process and its launcher.

    Attributes:
        parent: The LOOP process.
        launcher: Its helper.
        generation: Which generation it is.
        state: The LOOP process's state.
    """

    parent: Process
    launcher: Process
    generation: int
    state: str

    def enclave(self, table: dict[int, Process]) -> list[Process]:
        """Return the processes below the two: the monitor, and what it has started."""
        return descendants([self.parent.pid, self.launcher.pid], table)

    def kill(self, table: dict[int, Process]) -> None:
        """Stop the launcher and its child for good, then kill the LOOP process.

        A stopped process runs no code of its own, so it does not end because a socket has closed: only whoever reaps
        it ends it.

        Raises:
            StepError: There is no enclave, or one of them has ended by itself.
        """
        stopped = [self.launcher, *(process for process in self.enclave(table) if process.ppid == self.launcher.pid)]
        if len(stopped) < 2:
            raise StepError("the launcher has no enclave below it", expected="a child process", actual="none")
        signalled = [send_signal(process, signal.SIGSTOP) for process in stopped]
        if not all(signalled) or not send_signal(self.parent, signal.SIGKILL):
            raise StepError("a process of the enclave has ended before it was killed")


def enclave_parts(providers: Iterable[pb.Provider], table: dict[int, Process]) -> EnclaveParts:
    """Return the running generation.

    Args:
        providers: As the host tells them.
        table: The processes.

    Raises:
        StepError: The host tells of none, or of processes that there are not.
    """
    parts = {part.name: part for provider in providers if provider.id == PROVIDER for part in provider.parts}
    if not {_PARENT, _LAUNCHER} <= parts.keys():
        raise StepError(f"the host loads no {PROVIDER}", expected=f"{_PARENT} and {_LAUNCHER}", actual=str(list(parts)))
    parent, launcher = parts[_PARENT], parts[_LAUNCHER]
    missing = [part.name for part in (parent, launcher) if part.pid not in table]
    if missing:
        raise StepError(f"there is no process of {' and '.join(missing)}", actual=f"{parent.state}: {parent.reason}")
    return EnclaveParts(table[parent.pid], table[launcher.pid], parent.generation, parent.state)

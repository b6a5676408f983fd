"""The process parts of one provider: started together, watched, and ended.

Rules of this module:

1. A process is started after those that it needs are ready. If one cannot be started, all are ended.
2. What they register goes through here, so that all of it can be taken away at once, before anything is ended, and
   nothing is added afterwards.
3. What is told of a process that was ended because it failed is how it failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Final, Protocol

from attrs import frozen

from innkeeper.loop.peers import Registrar
from innkeeper.loop.plans import ProcessPlan
from innkeeper.loop.states import PartStatus
from innkeeper.providers.parts import HOST_PART, DeclaredPart, PartRow
from innkeeper.providers.ports import ProviderRegistry
from innkeeper.providers.states import ProviderState
from innkeeper_sdk.capability import Capability, CapabilityInfo
from innkeeper_sdk.errors import ConflictError, ProviderFailedError
from innkeeper_sdk.manifest import Process

__all__ = ["Gate", "Processes", "Supervise", "Supervised", "folded"]

# A supervisor keeps the deadlines of its plan; this is for what it does beside them, such as ending what is left over.
_MARGIN_SECONDS: Final = 30.0

# From the worst: a provider is as well as the worst of its parts.
_WORST: Final = (
    ProviderState.FAILED,
    ProviderState.UNSUPPORTED,
    ProviderState.QUARANTINED,
    ProviderState.RESTARTING,
    ProviderState.DEGRADED,
)
_FINAL: Final = _WORST[:3]

_LOOP: Final = "loop"


class Supervised(Protocol):
    """What keeps one process, with its helpers: ``innkeeper.loop.supervisor.Supervisor``."""

    async def start(self) -> None:
        """Start it; return when its capabilities are there.

        Raises:
            ProviderFailedError: They cannot be; what was started has been ended.
        """

    async def close(self) -> None:
        """End it with everything that belongs to it; idempotent."""

    def parts(self) -> Sequence[PartStatus]:
        """Return how it is, and its helpers."""


class Supervise(Protocol):
    """Make what keeps a process."""

    def __call__(self, plan: ProcessPlan, registrar: Registrar, changed: Callable[[], None]) -> Supervised:
        """Return it, not yet started.

        Args:
            plan: What to run.
            registrar: Where its capabilities go.
            changed: Called after every change of a part.
        """


class Gate:
    """Where the processes of one provider register, until it is closed; implements ``Registrar``.

    Args:
        registry: The registry.
        provider_id: The provider.
    """

    def __init__(self, registry: ProviderRegistry, provider_id: str) -> None:
        self._registry = registry
        self._provider_id = provider_id
        self._registered: set[str] = set()
        self._closed = False

    def register(self, capability: Capability, info: CapabilityInfo) -> None:
        """Register a capability.

        Raises:
            ProviderFailedError: It is not what the provider declared.
            ConflictError: It is registered already, or the provider is being stopped.
        """
        if self._closed:
            raise ConflictError(f"{info.id} cannot be registered while its provider is stopped")
        self._registry.register(self._provider_id, capability, info=info)
        self._registered.add(info.id)

    def unregister(self, capability_id: str) -> None:
        """Take a capability away; idempotent."""
        if capability_id in self._registered:
            self._registered.discard(capability_id)
            self._registry.unregister(self._provider_id, capability_id)

    def close(self) -> None:
        """Take everything away, and let nothing in any more; idempotent."""
        self._closed = True
        for capability_id in list(self._registered):
            self.unregister(capability_id)


@frozen
class _Kept:
    plan: ProcessPlan
    supervised: Supervised


class Processes:
    """The process parts of one provider.

    Args:
        declared: Its parts.
        gate: Where their capabilities go.
        supervise: Makes what keeps each process.
        changed: Called after every change of a part.
    """

    def __init__(
        self,
        declared: Iterable[DeclaredPart],
        *,
        gate: Gate,
        supervise: Supervise,
        changed: Callable[[], None],
    ) -> None:
        self._declared = [part for part in declared if part.mode != HOST_PART]
        self._supervise = supervise
        self._changed = changed
        self._gate = gate
        self._kept: dict[str, _Kept] = {}
        self._ended: dict[str, list[PartRow]] = {}

    async def start(self, plans: Iterable[ProcessPlan], processes: Mapping[str, Process]) -> None:
        """Start all of them; return when their capabilities are there. To be called once.

        Args:
            plans: What to run.
            processes: The manifest's, by name: which of them needs which.

        Raises:
            ProviderFailedError: One cannot be started. What was started is there until ``close``.
        """
        by_name = {plan.name: plan for plan in plans}
        needs = {name: [need for need in processes[name].needs if need in by_name] for name in by_name}
        # What others need comes first, and is ended last.
        for name in TopologicalSorter(needs).static_order():
            plan = by_name[name]
            self._kept[name] = _Kept(plan, self._supervise(plan, self._gate, self._changed))
        ready = {name: asyncio.Event() for name in needs}
        tasks = [
            asyncio.create_task(self._start(kept, [ready[need] for need in needs[name]], ready[name]))
            for name, kept in self._kept.items()
        ]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def end_seconds(self, plans: Iterable[ProcessPlan]) -> float:
        """Return how long ``close`` may take, given what was started."""
        return sum(plan.restart.stop_seconds + _MARGIN_SECONDS for plan in plans) + _MARGIN_SECONDS

    def withdraw(self) -> None:
        """Take away everything that they have registered, and let nothing in any more; idempotent."""
        self._gate.close()

    async def close(self) -> None:
        """End all of them, those that others need last; idempotent.

        Raises:
            ProviderFailedError: One did not end in time; the others have been ended all the same.
        """
        self.withdraw()
        late = []
        while self._kept:
            name = next(reversed(self._kept))
            kept = self._kept[name]
            before = _rows(kept)
            seconds = kept.plan.restart.stop_seconds + _MARGIN_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await kept.supervised.close()
            except TimeoutError:
                late.append(f"the process {name} did not end in {seconds:g} s")
            self._ended[name] = [
                was if was.state in _FINAL else now for was, now in zip(before, _rows(kept), strict=True)
            ]
            del self._kept[name]
        if late:
            raise ProviderFailedError("; ".join(late))

    def rows(self, state: ProviderState, since: datetime) -> list[PartRow]:
        """Return every process part, each helper after its process.

        Args:
            state: Of what was not started: its provider's.
            since: When that came to be so.
        """
        found: list[PartRow] = []
        for part in self._declared:
            if part.mode == _LOOP and part.name in self._kept:
                found += _rows(self._kept[part.name])
            elif part.mode == _LOOP and part.name in self._ended:
                found += self._ended[part.name]
            elif (part.process or part.name) not in (*self._kept, *self._ended):
                found.append(PartRow(part.name, part.mode, state, "", since))
        return found

    async def _start(self, kept: _Kept, needs: Sequence[asyncio.Event], ready: asyncio.Event) -> None:
        for need in needs:
            await need.wait()
        seconds = kept.plan.restart.start_seconds + _MARGIN_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await kept.supervised.start()
        except TimeoutError:
            raise ProviderFailedError(
                f"the process {kept.plan.name} was not ready in {seconds:g} s", provider=kept.plan.provider_id
            ) from None
        ready.set()


def folded(parts: Iterable[PartRow], reason: str) -> tuple[ProviderState, str]:
    """Return how a provider is that has been started, and why: as its worst part is.

    Args:
        parts: Its parts.
        reason: Why it is degraded with all its parts ready; empty if it is not.
    """
    worst, why = (ProviderState.DEGRADED, reason) if reason else (ProviderState.READY, "")
    for part in parts:
        # A process that starts anew was ready before.
        state = ProviderState.RESTARTING if part.state is ProviderState.STARTING else part.state
        if state in _WORST and (worst not in _WORST or _WORST.index(state) < _WORST.index(worst)):
            worst, why = state, part.reason or f"its process {part.name} is {part.state.value}"
    return worst, why


def _rows(kept: _Kept) -> list[PartRow]:
    return [
        PartRow(
            name=part.name,
            mode=part.mode,
            state=ProviderState(part.state.value),
            reason=part.reason,
            since=part.since,
            pid=part.pid,
            generation=part.generation,
        )
        for part in kept.supervised.parts()
    ]

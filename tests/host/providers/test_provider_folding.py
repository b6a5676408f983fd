"""How a provider is, given its parts; and where processes register until their provider is stopped."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from innkeeper.capabilities.callers import ProviderCaller
from innkeeper.capabilities.registry import Registry
from innkeeper.loop.plans import ProcessPlan, RestartPolicy
from innkeeper.loop.states import PartStatus, ProcessState
from innkeeper.providers import processes as module
from innkeeper.providers.parts import DeclaredPart, PartRow, declared_parts, hosted
from innkeeper.providers.processes import Gate, Processes, folded
from innkeeper.providers.states import ProviderState
from innkeeper_sdk.capability import Capability, CapabilityError, CapabilityInfo, CapabilityType
from innkeeper_sdk.errors import ConflictError, ProviderFailedError
from innkeeper_sdk.manifest import CapabilityDeclaration, Process

S = ProviderState
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# From the best to the worst that a part of a provider that was started can be.
ORDER = [S.READY, S.DEGRADED, S.RESTARTING, S.QUARANTINED, S.UNSUPPORTED, S.FAILED]


def part(state: ProviderState, reason: str = "", name: str = "p") -> PartRow:
    return PartRow(name, "loop", state, reason, NOW)


@pytest.mark.parametrize("states", list(permutations(ORDER, 2)))
def test_a_provider_is_as_its_worst_part_and_for_that_part_s_reason(states: tuple[S, S]) -> None:
    parts = [part(state, f"because {state.value}") for state in states]
    worst = max(states, key=ORDER.index)
    assert folded(parts, "") == (worst, f"because {worst.value}")


def test_without_parts_it_is_ready() -> None:
    assert folded([], "") == (S.READY, "")
    assert folded([part(S.READY), part(S.READY)], "") == (S.READY, "")


def test_what_is_not_started_degrades_it_and_no_more() -> None:
    assert folded([part(S.READY)], "no sources") == (S.DEGRADED, "no sources")
    assert folded([part(S.DEGRADED, "slow")], "no sources") == (S.DEGRADED, "no sources")
    assert folded([part(S.RESTARTING, "it fell")], "no sources") == (S.RESTARTING, "it fell")


def test_a_process_that_starts_anew_is_restarting() -> None:
    assert folded([part(S.STARTING, name="hands")], "") == (S.RESTARTING, "its process hands is starting")


def test_a_state_that_serves_is_told_only_if_all_parts_serve() -> None:
    for state in ORDER:
        assert folded([part(S.READY), part(state, "x")], "")[0].serves is state.serves


def test_without_a_document_there_are_no_parts() -> None:
    assert declared_parts(None, None) == ()
    assert declared_parts({"id": "a", "title": "A", "sdk": ""}, None) == ()


@pytest.mark.parametrize(
    ("where", "mode", "expected"),
    [
        (("host",), None, True),
        (("loop",), None, False),
        (("host", "loop"), None, True),
        (("loop", "host"), None, True),
        (("host", "loop"), "host", True),
        (("host", "loop"), "loop", False),
        (("host",), "loop", True),
        (("loop",), "host", False),
    ],
)
def test_where_a_capability_runs(where: tuple[str, ...], mode: str | None, expected: Any) -> None:
    assert hosted(where, mode) is expected


class Nothing(Capability):
    info = CapabilityInfo("a@1.0.0", CapabilityType.ACTION)  # type: ignore[assignment] # a constant is a property too


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.declare("p", [CapabilityDeclaration("a@1.0.0", CapabilityType.ACTION)])
    return registry


def ready(registry: Registry) -> bool:
    return registry.bound("p").ready("a@1.0.0")


def test_a_gate_lets_a_process_register_and_take_away(registry: Registry) -> None:
    gate = Gate(registry, "p")
    for _ in range(2):
        gate.register(Nothing(), Nothing.info)
        assert ready(registry)
        gate.unregister("a@1.0.0")
        gate.unregister("a@1.0.0")
        assert not ready(registry)


def test_a_closed_gate_has_taken_everything_away_and_lets_nothing_in(registry: Registry) -> None:
    gate = Gate(registry, "p")
    gate.register(Nothing(), Nothing.info)
    resolved = registry.resolve(ProviderCaller("p"), "a@1.0.0").capability
    gate.close()
    gate.close()
    assert not ready(registry)
    with pytest.raises(ConflictError, match="while its provider is stopped"):
        gate.register(Nothing(), Nothing.info)
    with pytest.raises(CapabilityError, match="not available"):
        resolved._check_alive()  # type: ignore[attr-defined] # what was handed out is revoked
    gate.unregister("a@1.0.0")


def test_a_gate_takes_away_only_what_came_through_it(registry: Registry) -> None:
    registry.register("p", Nothing())
    gate = Gate(registry, "p")
    gate.unregister("a@1.0.0")
    gate.close()
    assert ready(registry)


def test_what_is_not_declared_is_not_let_in(registry: Registry) -> None:
    with pytest.raises(ProviderFailedError, match="not declared"):
        Gate(registry, "p").register(Nothing(), CapabilityInfo("b@1.0.0", CapabilityType.ACTION))
    with pytest.raises(ConflictError, match="belongs to the provider p"):
        Gate(registry, "other").register(Nothing(), Nothing.info)


class Stuck:
    """What keeps a process and never gets done; its supervisor is at fault, not the process."""

    def __init__(self, name: str, *, start: bool = True) -> None:
        self.name = name
        self._starts = start
        self.closed = 0

    async def start(self) -> None:
        if not self._starts:
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed += 1
        await asyncio.Event().wait()

    def parts(self) -> list[PartStatus]:
        return [PartStatus(self.name, "loop", ProcessState.READY, "", NOW, 7, 1)]


def processes(registry: Registry, kept: dict[str, Stuck]) -> tuple[Processes, list[ProcessPlan]]:
    made = Processes(
        [DeclaredPart(name, "loop") for name in kept],
        gate=Gate(registry, "p"),
        supervise=lambda plan, registrar, changed: kept[plan.name],
        changed=lambda: None,
    )
    restart = RestartPolicy(start_seconds=0.01, stop_seconds=0.01)
    plans = [ProcessPlan("p", name, Path("/x"), {}, (), "{}", (), restart, Path("/x")) for name in kept]
    return made, plans


async def test_a_supervisor_that_does_not_end_is_left_and_the_next_one_is_ended(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MARGIN_SECONDS", 0.01)
    kept = {"a": Stuck("a"), "b": Stuck("b")}
    made, plans = processes(registry, kept)
    await made.start(plans, {name: Process("x", needs=["a"] if name == "b" else []) for name in kept})
    with pytest.raises(ProviderFailedError, match=r"the process b did not end in 0\.02 s; the process a did not end"):
        await made.close()
    assert [one.closed for one in kept.values()] == [1, 1]
    # That they are there is still told: somebody else ends them.
    assert [(row.name, row.pid) for row in made.rows(S.STOPPED, NOW)] == [("a", 7), ("b", 7)]
    await made.close()


async def test_a_supervisor_that_does_not_start_is_given_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MARGIN_SECONDS", 0.01)
    made, plans = processes(registry, {"a": Stuck("a", start=False), "b": Stuck("b")})
    with pytest.raises(ProviderFailedError, match=r"the process a was not ready in 0\.02 s"):
        await made.start(plans, {"a": Process("x"), "b": Process("x")})
    assert made.end_seconds(plans) == pytest.approx(0.05)

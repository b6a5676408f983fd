"""Which module type a workflow runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from attrs import frozen

from innkeeper.capabilities.limits import LimitTable, declare_limits
from innkeeper.capabilities.registry import Registry
from innkeeper.modules.attributes import Binding
from innkeeper.modules.candidates import ReadyModuleType
from innkeeper.modules.selection import Modules, Surroundings
from innkeeper_sdk.errors import ConflictError, UnavailableError, WorkflowError
from innkeeper_sdk.manifest import Kind, Manifest, ModuleDeclaration
from innkeeper_sdk.module import Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult

SPEC = WorkflowSpec(workflow_id="cc" * 32, owner="aa" * 20, name="w", tag="", kind="tape")
SEALED = Binding(provider_id="vaults", module="sealed", keys=("seal", "sealed"))


class Type(ModuleType):
    """A module type that remembers what it loaded."""

    def __init__(self, name: str, refusal: Exception | None = None) -> None:
        self._name = name
        self.refusal = refusal
        self.loaded: list[bytes] = []

    @property
    def name(self) -> str:
        return self._name

    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        self.loaded.append(binary)
        if self.refusal is not None:
            raise self.refusal
        return Loaded()


class Loaded(Module):
    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        return ExecutionResult()


@frozen
class Ready:
    provider_id: str
    module_type: Type
    manifest: Manifest


def ready(provider_id: str, name: str, *kinds: str, refusal: Exception | None = None) -> dict[str, Ready]:
    manifest = Manifest(
        id=provider_id,
        title=provider_id,
        sdk=">=0",
        modules=[ModuleDeclaration(name)],
        kinds=[Kind(name=kind, module=name) for kind in kinds],
    )
    return {name: Ready(provider_id, Type(name, refusal), manifest)}


def modules(types: Mapping[str, Ready], **options: Any) -> Modules:
    shown: Mapping[str, ReadyModuleType] = types
    return Modules(
        Surroundings(
            ready=lambda: shown,
            registry=Registry(),
            limits=LimitTable(declare_limits([]).limits),
            **options,
        )
    )


BOTH = {**ready("vaults", "sealed"), **ready("music", "player", "tape", "reel")}


async def test_the_kind_decides_where_nothing_is_bound() -> None:
    types = {**ready("vaults", "sealed"), **ready("paper", "piano", "score"), **ready("music", "player", "tape")}
    selected = await modules(types).create(SPEC, b"binary", None)
    assert (selected.main, selected.why) == ("player", "it takes the kind tape")
    assert {name: one.module_type.loaded for name, one in types.items()} == {
        "sealed": [],
        "piano": [],
        "player": [b"binary"],
    }


async def test_a_kind_that_nothing_ready_takes_defers() -> None:
    for types in ({}, ready("vaults", "sealed"), ready("paper", "piano", "score")):
        with pytest.raises(UnavailableError, match="no module type that is ready takes the kind tape"):
            await modules(types).create(SPEC, b"", None)


async def test_a_kind_that_two_take_is_an_error_and_no_lottery() -> None:
    types = {**ready("music", "player", "tape"), **ready("rival", "recorder", "tape")}
    with pytest.raises(ConflictError, match="player, recorder"):
        await modules(types).create(SPEC, b"", None)


async def test_a_kind_belongs_to_the_module_type_that_the_manifest_names() -> None:
    (one,) = ready("music", "player", "tape").values()
    with pytest.raises(UnavailableError):
        await modules({"other": one}).create(SPEC, b"", None)


async def test_a_binding_decides_alone() -> None:
    types = dict(BOTH)
    selected = await modules(types).create(SPEC, b"binary", SEALED)
    assert (selected.main, selected.why) == ("sealed", "the attributes bind the workflow to it: seal, sealed")
    assert types["sealed"].module_type.loaded == [b"binary"]
    assert types["player"].module_type.loaded == []


@pytest.mark.parametrize(
    "types",
    [
        {},
        ready("music", "player", "tape"),
        {**ready("music", "player", "tape"), **ready("imposter", "sealed")},
        {**ready("vaults", "other"), **ready("music", "player", "tape")},
    ],
)
async def test_a_bound_workflow_waits_for_its_own_module_type_and_never_runs_elsewhere(types: dict[str, Ready]) -> None:
    with pytest.raises(UnavailableError, match=r"seal, sealed.*sealed of the provider vaults: it is missing, disabled"):
        await modules(types).create(SPEC, b"", SEALED)
    assert all(one.module_type.loaded == [] for one in types.values())


async def test_a_bound_workflow_says_why_it_waits() -> None:
    with pytest.raises(UnavailableError, match="provider vaults: quarantined after 5 crashes"):
        await modules({}, pending=lambda: {"sealed": "quarantined after 5 crashes"}).create(SPEC, b"", SEALED)
    with pytest.raises(UnavailableError, match="provider vaults: vaults is disabled in a file"):
        await modules({}, absent=lambda id_: f"{id_} is disabled in a file").create(SPEC, b"", SEALED)


@pytest.mark.parametrize("refusal", [WorkflowError("no tape"), UnavailableError("still warming up")])
async def test_a_refused_binary_is_told_at_once(refusal: Exception) -> None:
    with pytest.raises(type(refusal), match=str(refusal)):
        await modules(ready("music", "player", "tape", refusal=refusal)).create(SPEC, b"", None)


async def test_what_a_workflow_is_bound_to_must_be_said() -> None:
    with pytest.raises(TypeError, match="binding"):
        await modules(BOTH).create(SPEC, b"")  # type: ignore[call-arg] # the point

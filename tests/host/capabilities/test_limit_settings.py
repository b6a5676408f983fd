"""The operator's settings of limits."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from innkeeper.capabilities.limit_settings import apply_settings
from innkeeper.capabilities.limits import DeclaredLimit, declare_limits
from innkeeper.config.yaml import FaultyConfigError, Scalar
from innkeeper_sdk.documents import Fault, Origin
from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.manifest import Limit, LimitScope, LimitType, Manifest

OWNER, WORKFLOW_ID = "aa" * 20, "cc" * 32


@pytest.fixture(scope="module")
def limits() -> Mapping[str, DeclaredLimit]:
    own = {
        "PerWorkflow.Thing.Size": Limit(LimitType.SIZE, "1kb", at_most="PerWorkflow.Thing.Total"),
        "PerWorkflow.Thing.Total": Limit(LimitType.SIZE, "10kb"),
        "Thing.Global": Limit(LimitType.INTEGER, 1, scope=LimitScope.GLOBAL),
        "PerOwner.Thing": Limit(LimitType.INTEGER, 1, scope=LimitScope.OWNER),
    }
    return declare_limits([Manifest(id="thing", title="Thing", sdk=">=0", limits=own)]).limits


def faults(
    limits: Mapping[str, DeclaredLimit],
    settings: Mapping[str, Mapping[str, Scalar]],
    entries: Mapping[str, Mapping[str, tuple[Scalar, Origin]]] | None = None,
) -> tuple[Fault, ...]:
    """Return the faults of settings, whose origins count lines from 1 in their order."""
    names = [f"limits.{layer}.{name}" for layer, values in settings.items() for name in values]
    origins = {name: Origin("innkeeper.yaml", line) for line, name in enumerate(names, start=1)}
    with pytest.raises(FaultyConfigError) as caught:
        apply_settings(limits, settings=settings, origins=origins, entries=entries)
    assert isinstance(caught.value, ConfigError)
    return caught.value.faults


def test_settings_of_every_layer_are_read_in_their_units(limits: Mapping[str, DeclaredLimit]) -> None:
    table = apply_settings(
        limits,
        settings={
            "global": {"PerWorkflow.ExecutionTimeout": "1m30s", "Thing.Global": 7},
            f"owner.{OWNER}": {"PerOwner.Thing": 8},
            f"workflow.{WORKFLOW_ID}": {"PerWorkflow.LogLineLimit": "2kb", "PerWorkflow.UserMetricEnabled": True},
        },
        entries={"thing": {"PerWorkflow.Thing.Size": ("2kb", Origin("plugins.yaml"))}},
    )
    assert table.get("PerWorkflow.ExecutionTimeout") == 90
    assert table.get("Thing.Global") == 7
    assert table.get("PerOwner.Thing", owner=OWNER) == 8
    assert table.get("PerWorkflow.LogLineLimit", workflow_id=WORKFLOW_ID) == 2000
    assert table.get("PerWorkflow.UserMetricEnabled", workflow_id=WORKFLOW_ID) is True
    assert table.get("PerWorkflow.UserMetricEnabled") is False
    assert table.get("PerWorkflow.Thing.Size") == 2000


def test_nothing_set_is_every_default(limits: Mapping[str, DeclaredLimit]) -> None:
    table = apply_settings(limits)
    assert {name: table.get(name) for name in limits} == {name: limit.default for name, limit in limits.items()}


def test_an_unknown_name_is_a_fault_with_the_nearest_one(limits: Mapping[str, DeclaredLimit]) -> None:
    (fault,) = faults(limits, {"global": {"PerWorkflow.ExecutionTimeOut": "1m"}})
    assert fault.origin == Origin("innkeeper.yaml", 1)
    assert fault.path == "limits.global.PerWorkflow.ExecutionTimeOut"
    assert fault.hint == "did you mean PerWorkflow.ExecutionTimeout?"
    (fault,) = faults(limits, {"global": {"zzz": 1}})
    assert fault.hint is None


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("PerWorkflow.ExecutionTimeout", "fast"),
        ("PerWorkflow.ExecutionResponseLimit", "100kib"),
        ("WorkflowLimit", "many"),
        ("WorkflowLimit", 1.5),
        ("PerWorkflow.UserMetricEnabled", "yes"),
    ],
)
def test_a_value_of_another_type_is_a_fault(limits: Mapping[str, DeclaredLimit], name: str, raw: Scalar) -> None:
    (fault,) = faults(limits, {"global": {name: raw}})
    assert repr(raw) in fault.message
    assert fault.path == f"limits.global.{name}"


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (f"owner.{OWNER}", "Thing.Global"),
        (f"workflow.{WORKFLOW_ID}", "Thing.Global"),
        (f"workflow.{WORKFLOW_ID}", "PerOwner.Thing"),
        ("org.x", "PerOwner.Thing"),
    ],
)
def test_a_setting_narrower_than_its_scope_is_a_fault(
    limits: Mapping[str, DeclaredLimit], layer: str, name: str
) -> None:
    (fault,) = faults(limits, {layer: {name: 1}})
    assert "cannot be set for one" in fault.message


@pytest.mark.parametrize(
    "layers",
    [
        {"global": {"PerWorkflow.Thing.Size": "11kb"}},
        {"global": {"PerWorkflow.Thing.Total": "999b"}},
        {f"owner.{OWNER}": {"PerWorkflow.Thing.Size": "11kb"}},
        {f"workflow.{WORKFLOW_ID}": {"PerWorkflow.Thing.Total": "999b"}},
    ],
)
def test_a_limit_above_the_one_it_must_not_exceed_is_a_fault_where_it_is_set(
    limits: Mapping[str, DeclaredLimit], layers: Mapping[str, Mapping[str, Scalar]]
) -> None:
    (fault,) = faults(limits, layers)
    assert fault.message == "PerWorkflow.Thing.Size must not exceed PerWorkflow.Thing.Total"
    assert fault.origin == Origin("innkeeper.yaml", 1)
    assert fault.expected is not None
    assert fault.actual is not None


def test_a_narrow_setting_is_compared_with_what_is_set_more_widely(limits: Mapping[str, DeclaredLimit]) -> None:
    wide = {"global": {"PerWorkflow.Thing.Total": "20kb"}}
    apply_settings(limits, settings={**wide, f"owner.{OWNER}": {"PerWorkflow.Thing.Size": "20kb"}})
    (fault,) = faults(limits, {**wide, f"owner.{OWNER}": {"PerWorkflow.Thing.Size": "20001b"}})
    assert fault.origin == Origin("innkeeper.yaml", 2)
    assert fault.expected == "at most 20kb"


def test_all_faults_are_told_together(limits: Mapping[str, DeclaredLimit]) -> None:
    found = faults(limits, {"global": {"a": 1, "WorkflowLimit": "x"}, f"owner.{OWNER}": {"Thing.Global": 1}})
    assert [fault.origin.line for fault in found] == [1, 2, 3]


def test_an_entry_sets_the_limits_of_its_own_provider_only(limits: Mapping[str, DeclaredLimit]) -> None:
    origin = Origin("plugins.yaml", 9)
    (fault,) = faults(limits, {}, {"thing": {"PerWorkflow.ExecutionTimeout": ("1m", origin)}})
    assert fault.origin == origin
    assert "the provider thing does not declare" in fault.message
    (fault,) = faults(limits, {}, {"thing": {"PerWorkflow.Thing.Sise": ("1kb", origin)}})
    assert fault.hint == "did you mean PerWorkflow.Thing.Size?"


def test_a_limit_set_for_everybody_in_two_files_is_a_fault(limits: Mapping[str, DeclaredLimit]) -> None:
    origin = Origin("plugins.yaml", 9)
    entries = {"thing": {"Thing.Global": (2, origin)}}
    (fault,) = faults(limits, {"global": {"Thing.Global": 3}}, entries)
    assert str(origin) in fault.message
    table = apply_settings(limits, settings={f"owner.{OWNER}": {"PerOwner.Thing": 3}}, entries=entries)
    assert (table.get("Thing.Global"), table.get("PerOwner.Thing", owner=OWNER)) == (2, 3)

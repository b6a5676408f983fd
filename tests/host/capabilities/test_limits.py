"""The declared limits."""

from __future__ import annotations

import pytest

from innkeeper.capabilities.amounts import parse_amount, show_amount
from innkeeper.capabilities.host_limits import HOST_LIMITS
from innkeeper.capabilities.limits import DeclaredLimit, LimitTable, declare_limits
from innkeeper_sdk.errors import LimitExceededError
from innkeeper_sdk.hooks import Limits
from innkeeper_sdk.manifest import Limit, LimitScope, LimitType, Manifest

OWNER, OTHER, WORKFLOW_ID = "aa" * 20, "bb" * 20, "cc" * 32


def manifest(provider_id: str, **limits: Limit) -> Manifest:
    return Manifest(id=provider_id, title=provider_id, sdk=">=0", limits=limits)


def count(default: int, *, scope: LimitScope = LimitScope.WORKFLOW, at_most: str | None = None) -> Limit:
    return Limit(LimitType.INTEGER, default, scope=scope, at_most=at_most)


def declared(**limits: Limit) -> dict[str, DeclaredLimit]:
    declarations = declare_limits([manifest("p", **limits)], host={})
    assert not declarations.errors
    return dict(declarations.limits)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WorkflowLimit", 1000),
        ("PerOwner.WorkflowExecutionConcurrencyLimit", 5),
        ("PerWorkflow.ExecutionTimeout", 300),
        ("PerWorkflow.ExecutionResponseLimit", 100_000),
        ("PerWorkflow.TriggerSubscriptionTimeout", 15),
        ("PerWorkflow.TriggerEventQueueTimeout", 600),
        ("PerWorkflow.CapabilityCallTimeout", 180),
        ("PerWorkflow.LogLineLimit", 1000),
        ("PerWorkflow.ConfigSizeLimit", 50_000),
        ("PerWorkflow.UserMetricEnabled", False),
    ],
)
def test_the_hosts_limits_have_the_references_defaults(name: str, value: float) -> None:
    table = LimitTable(declare_limits([]).limits)
    assert table.get(name, owner=OWNER, workflow_id=WORKFLOW_ID) == value


def test_every_default_of_the_host_is_a_value_of_its_type() -> None:
    assert not declare_limits([]).errors
    for limit in HOST_LIMITS.values():
        value = parse_amount(limit.type, limit.default)
        assert show_amount(limit.type, value)
        assert limit.description.endswith(".")


def test_the_narrowest_setting_decides() -> None:
    limits = declared(
        w=count(1), o=count(1, scope=LimitScope.OWNER), g=count(1, scope=LimitScope.GLOBAL), unset=count(1)
    )
    layers = {
        "global": {"w": 2, "o": 2, "g": 2},
        f"owner.{OWNER}": {"w": 3, "o": 3},
        f"workflow.{WORKFLOW_ID}": {"w": 4},
    }
    table: Limits = LimitTable(limits, layers)
    assert [table.get(n, owner=OWNER, workflow_id=WORKFLOW_ID) for n in ("w", "o", "g", "unset")] == [4, 3, 2, 1]
    assert [table.get(n, owner=OWNER) for n in ("w", "o", "g")] == [3, 3, 2]
    assert [table.get(n, owner=OTHER) for n in ("w", "o", "g")] == [2, 2, 2]
    assert table.get("w") == 2


def test_a_setting_narrower_than_the_scope_has_no_effect_even_if_it_got_in() -> None:
    limits = declared(g=count(1, scope=LimitScope.GLOBAL), o=count(1, scope=LimitScope.OWNER))
    table = LimitTable(limits, {f"owner.{OWNER}": {"g": 9}, f"workflow.{WORKFLOW_ID}": {"g": 9, "o": 9}})
    assert table.get("g", owner=OWNER, workflow_id=WORKFLOW_ID) == 1
    assert table.get("o", owner=OWNER, workflow_id=WORKFLOW_ID) == 1


def test_a_name_that_nothing_declares_is_an_error_and_not_unlimited() -> None:
    table = LimitTable(declared())
    for ask in (lambda: table.get("x"), lambda: table.check("x", 0), lambda: table.exceeded("x", 0)):
        with pytest.raises(KeyError):
            ask()


def test_the_limits_of_a_provider_are_its_own_alone() -> None:
    limits = declare_limits([manifest("p", mine=count(1)), manifest("q", theirs=count(2))]).limits
    assert LimitTable(limits, {f"owner.{OWNER}": {"mine": 7}}).of_provider("p", owner=OWNER) == {"mine": 7}


def test_a_relation_holds_when_it_could_not_be_known_before() -> None:
    limits = declared(inner=count(1, at_most="outer"), outer=count(10))
    layers = {f"owner.{OWNER}": {"inner": 8}, f"workflow.{WORKFLOW_ID}": {"outer": 3}}
    table = LimitTable(limits, layers)
    assert table.get("inner", owner=OWNER) == 8
    assert table.get("inner", owner=OWNER, workflow_id=WORKFLOW_ID) == 3


# Faulty declarations.


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"a": Limit(LimitType.SIZE, "5 parsecs")}, "the default of a: expected a size"),
        ({"a": count(2, at_most="b"), "b": count(1)}, "a is at most b, whose default is smaller"),
        ({"a": count(2, at_most="nothing")}, "a is at most nothing, which nothing declares"),
        ({"a": count(2, at_most="b"), "b": Limit(LimitType.SIZE, "1kb")}, "which counts something else"),
        (
            {"a": Limit(LimitType.BOOLEAN, False, at_most="b"), "b": Limit(LimitType.BOOLEAN, True)},
            "which counts something else",
        ),
        ({"a": count(1, at_most="b"), "b": count(1, at_most="a")}, "a is at most itself"),
        ({"a": count(1, at_most="a")}, "a is at most itself"),
        ({"WorkflowLimit": count(1)}, "WorkflowLimit is declared by the host already"),
    ],
)
def test_a_faulty_declaration_is_its_providers_error_alone(limits: dict[str, Limit], problem: str) -> None:
    declarations = declare_limits([manifest("bad", **limits), manifest("good", fine=count(1))])
    assert set(declarations.errors) == {"bad"}
    assert problem in str(declarations.errors["bad"])
    assert declarations.errors["bad"].provider == "bad"
    table = LimitTable(declarations.limits)
    assert table.get("fine") == 1
    assert table.get("WorkflowLimit") == 1000
    for name in declarations.limits:
        table.get(name)


def test_two_providers_that_declare_one_limit_are_both_named() -> None:
    declarations = declare_limits([manifest("p", x=count(1)), manifest("q", x=count(2))])
    assert set(declarations.errors) == {"q"}
    assert "x is declared by p already" in str(declarations.errors["q"])
    assert LimitTable(declarations.limits).get("x") == 1


# Exceeding.


@pytest.mark.parametrize(
    ("limit", "amount", "text"),
    [
        (
            Limit(LimitType.SIZE, "100kb"),
            110_500,
            f"x limited for workflow[{WORKFLOW_ID}]: cannot use 110.5kb, limit is 100kb",
        ),
        (
            Limit(LimitType.DURATION, "1m", scope=LimitScope.OWNER),
            61.5,
            f"x limited for owner[{OWNER}]: cannot use 1m1.5s, limit is 1m0s",
        ),
        (count(5, scope=LimitScope.GLOBAL), 6, "x limited: cannot use 6, limit is 5"),
    ],
)
def test_limits_are_inclusive_and_exceeding_one_says_so_in_the_references_words(
    limit: Limit, amount: float, text: str
) -> None:
    table = LimitTable(declared(x=limit))
    table.check("x", float(table.get("x")), owner=OWNER, workflow_id=WORKFLOW_ID)
    with pytest.raises(LimitExceededError) as caught:
        table.check("x", amount, owner=OWNER, workflow_id=WORKFLOW_ID)
    assert str(caught.value) == text
    assert table.declared["x"].provider_id == "p"

"""The rights of callers, case by case."""

from __future__ import annotations

import pytest

from innkeeper.capabilities.callers import Caller, Operator, ProviderCaller, Right, WorkflowCaller, permits
from innkeeper_sdk.capability import Visibility

WORKFLOW = WorkflowCaller(owner="ab" * 20, workflow_id="cd" * 32)
OWNED, GRANTED, STRANGER = ProviderCaller("owner"), ProviderCaller("friend"), ProviderCaller("stranger")

INTERNAL_YES = {
    (OWNED, Right.SEE),
    (OWNED, Right.CALL),
    (GRANTED, Right.SEE),
    (GRANTED, Right.CALL),
    (Operator(), Right.SEE),
}


@pytest.mark.parametrize("caller", [WORKFLOW, OWNED, GRANTED, STRANGER, Operator()])
@pytest.mark.parametrize("right", list(Right))
def test_what_is_public_is_everybodys_and_what_is_internal_is_granted(caller: Caller, right: Right) -> None:
    def asked(visibility: Visibility) -> bool:
        return permits(caller, right, provider_id="owner", visibility=visibility, granted_to=["friend"])

    assert asked(Visibility.PUBLIC)
    assert asked(Visibility.INTERNAL) is ((caller, right) in INTERNAL_YES)


@pytest.mark.parametrize("visibility", [None, "public", "internal", True])
def test_an_unknown_visibility_is_not_public(visibility: Visibility) -> None:
    for caller in (WORKFLOW, STRANGER):
        for right in Right:
            assert not permits(caller, right, provider_id="owner", visibility=visibility, granted_to=[])


def test_a_workflow_is_no_provider_of_the_same_name() -> None:
    named = WorkflowCaller(owner="owner", workflow_id="owner", execution_id="friend")
    assert not permits(
        named, Right.SEE, provider_id="owner", visibility=Visibility.INTERNAL, granted_to=["owner", "friend"]
    )

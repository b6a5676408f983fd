"""What is acceptable, before anything runs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from innkeeper.workflows.deployment import Accepted, accept, artifact_locator, locator_digest
from innkeeper.workflows.identity import workflow_id
from innkeeper_sdk.errors import InnkeeperError, LimitExceededError, WorkflowError
from tests.host.engine.engine_world import limit_table
from tests.host.workflows.handler_world import ATTRIBUTES, OWNER, deployment


def accepted(**changes: Any) -> Accepted:
    return accept(deployment(**changes), kinds={"scripted", "other"}, declared=ATTRIBUTES, limits=limit_table())


def test_an_acceptable_deployment_gets_its_id_and_owner() -> None:
    found = accepted(owner="0x" + OWNER.upper(), config=b"config")
    assert found.owner == OWNER
    assert found.workflow_id == workflow_id(owner=OWNER, name="my-workflow", binary=b"binary", config=b"config")
    assert found.attributes.text == "{}"
    assert found.binding is None


def test_attributes_that_bind_say_to_what() -> None:
    found = accepted(attributes=b'{"bound": true}')
    assert found.binding is not None
    assert (found.binding.module, found.binding.keys) == ("vault", ("bound",))


def test_the_default_of_an_attribute_binds_to_nothing() -> None:
    assert accepted(attributes=b'{"bound": false}').binding is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name has a wrong length"),
        ({"name": "x" * 256}, r"name has a wrong length \(expected 1 to 255 characters, found 256\)"),
        ({"name": "a\x00b"}, "cannot be shown"),
        ({"name": "a\nb"}, "cannot be shown"),
        ({"name": "half \udc80"}, "cannot be shown"),
        ({"tag": "x" * 256}, "tag has a wrong length"),
        ({"tag": "a\tb"}, "tag has characters that cannot be shown"),
        ({"owner": "22" * 19}, "owner is not an address"),
        ({"kind": "unknown"}, r"expected other or scripted, found 'unknown'"),
        ({"kind": ""}, "no enabled module type"),
        ({"binary": b""}, "binary is empty"),
        ({"attributes": b"null"}, "no JSON object"),
        ({"attributes": b'{"bound": true'}, "attributes are not valid"),
        ({"attributes": b'{"bound": true, "bound": false}'}, "given twice"),
        ({"attributes": b'{"bound": "yes"}'}, "not what the provider test expects"),
        ({"attributes": b'{"Bound": true}'}, r"declares the attribute 'Bound'.*did you mean bound\?"),
        ({"attributes": b'{"old": []}'}, "it is read at run time now"),
        ({"attributes": b"{}" + b" " * 9000}, "too large"),
    ],
)
def test_what_is_not_acceptable_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        accepted(**changes)


def test_a_name_and_a_tag_of_the_columns_width_are_fine() -> None:
    assert accepted(name="ü" * 255, tag="ü" * 255).deployment.tag == "ü" * 255


def test_a_configuration_above_its_limit_is_refused_in_the_references_words() -> None:
    accepted(config=b"x" * 50_000)
    with pytest.raises(LimitExceededError, match=r"ConfigSizeLimit limited for workflow\[00.*\]: cannot use 50\.001kb"):
        accepted(config=b"x" * 50_001)


def test_without_any_kind_nothing_can_be_deployed() -> None:
    with pytest.raises(InnkeeperError, match="a module type that takes some kind"):
        accept(deployment(), kinds=(), declared=ATTRIBUTES, limits=limit_table())


def test_a_locator_names_the_binarys_digest() -> None:
    locator = artifact_locator(b"binary")
    assert locator == f"artifact:sha256/{hashlib.sha256(b'binary').hexdigest()}"
    assert locator_digest(locator) == hashlib.sha256(b"binary").hexdigest()
    for other in ("", "https://x", locator + "0", locator.upper()):
        assert locator_digest(other) == ""

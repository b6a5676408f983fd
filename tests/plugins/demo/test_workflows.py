"""A confidential result is right only if it was made with the secret, of what was agreed on, and anew each time."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from innkeeper_demo.workflows import (
    INTERNAL_IDS,
    UNKNOWN_ID,
    Sealed,
    artifacts,
    attempts_of,
    hostile_config,
    plain_config,
    result_of,
)
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecutionResult
from innkeeper_sdk.values import wrap

EXAMPLES = Path(__file__).parents[3] / "examples"
KEY = "of the demonstration"
SEALED = Sealed(KEY)


def result(message: str = "1000 100.75", *, key: str = KEY, agreed: float = 100.75) -> dict[str, Any]:
    tag = hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()
    return {"value": {"agreed": agreed, "message": message, "hmac": tag}}


def test_a_right_result_has_no_fault() -> None:
    assert SEALED.fault(result()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        result(key="another"),
        result(key=""),
        result(agreed=99.25),
        result("1000 99.25"),
        result("1000"),
        {"value": {"agreed": 100.75, "message": "1000 100.75"}},
        {"value": {"agreed": 100.75, "message": "1000 100.75", "hmac": 7}},
        {"value": "a text"},
        {"error": "binary hash mismatch"},
    ],
)
def test_a_wrong_result_is_found_and_its_tag_not_repeated(wrong: dict[str, Any]) -> None:
    fault = SEALED.fault(wrong)
    assert fault is not None
    tag = wrong["value"].get("hmac") if isinstance(wrong.get("value"), dict) else None
    assert str(tag) not in fault


def test_a_result_that_came_twice_is_found() -> None:
    assert not SEALED.repeated([result("1 100.75"), result("2 100.75")])
    assert SEALED.repeated([result("1 100.75"), result("1 100.75")])


def test_the_secret_is_in_no_repr() -> None:
    assert KEY not in repr(SEALED)


def test_a_finished_execution_is_shown_as_the_command_line_shows_it() -> None:
    value = pb.Execution(result=ExecutionResult(value=wrap({"a": 1})).SerializeToString())
    assert result_of(value) == {"value": {"a": 1}}
    assert result_of(pb.Execution(error="timeout")) == {"error": "timeout"}
    failed = pb.Execution(result=ExecutionResult(error="no").SerializeToString())
    assert result_of(failed) == {"error": "no"}
    assert "without a value" in result_of(pb.Execution())["error"]


def test_attempts_are_read_from_a_result() -> None:
    (attempt,) = attempts_of({"value": [{"id": "vault@1.0.0", "refused": True, "error": "not found"}]})
    assert (attempt.id, attempt.refused, attempt.error) == ("vault@1.0.0", True, "not found")


@pytest.mark.parametrize("result", [{"error": "no"}, {"value": 7}, {"value": [{"id": "x"}]}, {"value": ["x"]}])
def test_what_is_no_list_of_attempts_is_an_error(result: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="hostile"):
        attempts_of(result)


@pytest.mark.parametrize(
    ("name", "config"), [("clock", plain_config()), ("sealed", SEALED.config()), ("hostile", hostile_config())]
)
def test_a_configuration_has_the_keys_of_its_example(name: str, config: dict[str, Any]) -> None:
    assert config.keys() == json.loads((EXAMPLES / name / "config.json").read_bytes()).keys()


def test_the_hostile_example_tries_what_the_demonstration_tries() -> None:
    assert json.loads((EXAMPLES / "hostile" / "config.json").read_bytes())["ids"] == [*INTERNAL_IDS, UNKNOWN_ID]


def test_a_confidential_workflow_says_so() -> None:
    deployed = artifacts("sealed", b"binary", {}, attributes={"confidential": True})
    assert json.loads(deployed.attributes) == {"confidential": True}
    assert json.loads(artifacts("clock", b"binary", {}).attributes) == {}

"""The records of ``-o json``."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper.cli import views
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecutionResult, Restrictions
from innkeeper_sdk.values import wrap

DONE = Timestamp(seconds=1)


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        (pb.Execution(), None),
        (pb.Execution(error="cut off"), {"error": "cut off"}),
        (
            pb.Execution(result=ExecutionResult(value=wrap({"a": [1, b"x"]})).SerializeToString(), finished_at=DONE),
            {"value": {"a": [1, {"bytes": "eA=="}]}},
        ),
        (pb.Execution(result=ExecutionResult(error="no").SerializeToString(), finished_at=DONE), {"error": "no"}),
        (pb.Execution(finished_at=DONE), {"error": "the workflow answered with nothing instead of a value"}),
        (
            pb.Execution(result=ExecutionResult(restrictions=Restrictions()).SerializeToString(), finished_at=DONE),
            {"error": "the workflow answered with restrictions instead of a value"},
        ),
    ],
)
def test_a_result_is_a_value_or_an_error_or_not_there_yet(execution: pb.Execution, expected: Any) -> None:
    assert views.result(execution) == expected


def test_what_is_absent_is_null() -> None:
    assert views.execution(pb.Execution())["finished_at"] is None
    assert views.provider(pb.Provider())["parts"] == []
    (part,) = views.provider(pb.Provider(parts=[pb.Part(name="host")]))["parts"]
    assert (part["pid"], part["generation"], part["since"]) == (None, None, None)
    (part,) = views.provider(pb.Provider(parts=[pb.Part(name="p", pid=3, generation=2, since=DONE)]))["parts"]
    assert (part["pid"], part["generation"], part["since"]) == (3, 2, "1970-01-01T00:00:01Z")
    assert views.workflow(pb.Workflow())["attributes"] == {}
    assert views.trigger(pb.Trigger())["config"] is None

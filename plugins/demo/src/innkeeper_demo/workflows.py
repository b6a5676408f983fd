"""The workflows that are deployed, and what their results must be.

Rules of this module:

1. All of them tick every second.
2. The confidential one's result is computed here once more from the secret that only the vault and this process have: a
   guest that got another secret, or none, cannot answer with the same tag.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecutionResult
from innkeeper_sdk.values import to_jsonable

__all__ = [
    "INTERNAL_IDS",
    "SECRET_NAME",
    "UNKNOWN_ID",
    "Attempt",
    "Sealed",
    "artifacts",
    "attempts_of",
    "hostile_config",
    "plain_config",
    "result_of",
]

_SCHEDULE: Final = "* * * * * *"

SECRET_NAME: Final = "DEMO_KEY"  # noqa: S105 - a name
_SAMPLES: Final = (101.5, 99.25, 100.0, 250.0, 100.75)
_AGREED: Final = sorted(_SAMPLES)[(len(_SAMPLES) - 1) // 2]

# Ways in that a version, a label or another internal capability might open.
INTERNAL_IDS: Final = (
    "confidential-workflows@1.0.0-alpha",
    "confidential-workflows@1.0.0-0",
    "confidential-workflows@1.0.0",
    "confidential-workflows:ChainSelector:1@1.0.0-alpha",
    "vault@1.0.0",
    "confidential-relay@1.0.0",
    "artifacts@1.0.0",
)
UNKNOWN_ID: Final = "unknown-capability@1.0.0"


def artifacts(
    name: str, binary: bytes, config: Mapping[str, Any], *, attributes: Mapping[str, Any] | None = None
) -> pb.WorkflowArtifacts:
    """Return a workflow as it is deployed."""
    return pb.WorkflowArtifacts(
        binary=binary,
        file_name=f"{name}.wasm",
        config=json.dumps(config).encode(),
        attributes=json.dumps(attributes or {}).encode(),
        name=name,
        tag="demo",
    )


def plain_config() -> dict[str, Any]:
    """Return the configuration of ``clock``."""
    return {"schedule": _SCHEDULE, "greeting": "Hello"}


def hostile_config() -> dict[str, Any]:
    """Return the configuration of ``hostile``."""
    return {"schedule": _SCHEDULE, "method": "Execute", "ids": [*INTERNAL_IDS, UNKNOWN_ID]}


def result_of(execution: pb.Execution) -> dict[str, Any]:
    """Return what a finished execution came to, as ``innkeeper executions show -o json`` has it."""
    if execution.error:
        return {"error": execution.error}
    outcome = ExecutionResult.FromString(execution.result)
    if outcome.WhichOneof("result") == "value":
        return {"value": to_jsonable(outcome.value)}
    return {"error": outcome.error or "the workflow answered without a value"}


@frozen
class Attempt:
    """What ``hostile`` met with when it called a capability."""

    id: str
    refused: bool
    error: str


def attempts_of(result: Mapping[str, Any]) -> list[Attempt]:
    """Return what ``hostile`` says of its calls.

    Args:
        result: Of a successful execution.

    Raises:
        ValueError: It is no such result.
    """
    try:
        attempts = [Attempt(str(a["id"]), bool(a["refused"]), str(a["error"])) for a in result["value"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"the hostile workflow's result is not what it has to be: {error!r}") from error
    return attempts


@frozen
class Sealed:
    """The workflow ``sealed``: it keys a tag over what the nodes agreed on with a secret.

    Attributes:
        secret: The key.
    """

    secret: str = field(repr=False)

    def config(self) -> dict[str, Any]:
        """Return its configuration."""
        return {"schedule": _SCHEDULE, "secret": SECRET_NAME, "samples": list(_SAMPLES)}

    def fault(self, result: Mapping[str, Any]) -> str | None:
        """Return what is wrong with a result, or None; never with a tag in it."""
        value = result.get("value")
        if not isinstance(value, Mapping):
            return "it has no value"
        message, agreed, tag = (value.get(key) for key in ("message", "agreed", "hmac"))
        if agreed != _AGREED:
            return f"the nodes agreed on {agreed!r}, not on {_AGREED}"
        if not isinstance(message, str) or message.partition(" ")[2] != f"{_AGREED:g}":
            return "its message is not of what the nodes agreed on"
        right = hmac.new(self.secret.encode(), message.encode(), hashlib.sha256).hexdigest()
        if not isinstance(tag, str) or not hmac.compare_digest(tag, right):
            return "its HMAC was not made with the secret"
        return None

    def repeated(self, results: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether two results are of one message: then not each was computed."""
        messages = [result["value"]["message"] for result in results]
        return len(set(messages)) != len(messages)

"""The identities of workflows, executions and registrations, as the reference node forms them.

Rules of this module:

1. Every formula here is public: a workflow's author computes the same values. None may change.
2. The formulas join their parts without lengths or separators, so different inputs can give one id. Whoever uses an
   id as a key compares the parts behind it too.
3. What is ours alone (``idempotency_key``) has length prefixes.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from innkeeper_sdk.errors import WorkflowError

__all__ = [
    "execution_id",
    "idempotency_key",
    "metadata_name",
    "parse_owner",
    "trigger_reference",
    "trigger_registration_id",
    "wire_name",
    "workflow_id",
]

# The first byte of every workflow id: the version of the formula (chainlink-common, workflows/utils.go).
_VERSION: Final = b"\x00"

_OWNER: Final = re.compile(r"(?:0[xX])?(?P<digits>[0-9a-fA-F]{40})", re.ASCII)


def workflow_id(*, owner: str, name: str, binary: bytes, config: bytes, secrets_url: str = "") -> str:
    """Return the id of a workflow.

    Args:
        owner: 40 hexadecimal digits.
        name: As deployed.
        binary: As stored: after base64, before any decompression.
        config: Its configuration.
        secrets_url: Empty since the second version of the registry.

    Returns:
        64 hexadecimal digits; the first two are the version, ``00``.
    """
    digest = hashlib.sha256()
    for part in (bytes.fromhex(owner), name.encode(), binary, config, secrets_url.encode()):
        digest.update(part)
    return (_VERSION + digest.digest()[1:]).hex()


def execution_id(workflow: str, event_id: str, trigger_index: int) -> str:
    """Return the id of the execution of one event.

    Args:
        workflow: The workflow's id.
        event_id: The trigger's id of the event.
        trigger_index: Which of the workflow's subscriptions it is for.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(f"{workflow}{event_id}{trigger_index}".encode()).hexdigest()


def wire_name(name: str) -> str:
    """Return a workflow's name as it goes on the wire: the first ten hexadecimal digits of its SHA-256."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def metadata_name(name: str) -> str:
    """Return a workflow's name as request metadata has it: its wire name's ten characters, in hexadecimal."""
    return wire_name(name).encode().hex()


def trigger_reference(index: int) -> str:
    """Return the reference id of a registration."""
    return f"trigger_{index}"


def trigger_registration_id(workflow: str, index: int) -> str:
    """Return the trigger id of a registration."""
    return f"trigger_reg_{workflow}_{index}"


def idempotency_key(workflow: str, execution: str, call: str) -> str:
    """Return the key of a call: the same for every attempt of its execution, and no other call's.

    Args:
        workflow: The workflow's id.
        execution: The execution's id.
        call: What names the call within the execution.
    """
    digest = hashlib.sha256(b"innkeeper/idempotency-key/1")
    for part in (workflow, execution, call):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def parse_owner(text: str) -> str:
    """Return an owner as it is stored: 40 lower-case hexadecimal digits.

    Args:
        text: 20 bytes in hexadecimal, in any case, with or without ``0x``.

    Raises:
        WorkflowError: It is something else.
    """
    match = _OWNER.fullmatch(text)
    if match is None:
        raise WorkflowError(
            "the workflow's owner is not an address",
            path="owner",
            expected="20 bytes in hexadecimal, with or without 0x",
            actual=repr(text[:64]),
        )
    return match["digits"].lower()

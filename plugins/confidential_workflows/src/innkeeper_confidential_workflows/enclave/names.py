"""Which secrets a guest asks for, as the monitor asks for them and as the execution reads the answer.

Both sides of an execution use this one function, so that they agree on what belongs to what.
"""

from __future__ import annotations

from collections.abc import Iterable

from innkeeper_confidential_workflows.protocol.bodies import SecretName
from innkeeper_confidential_workflows.protocol.fields import is_name
from innkeeper_sdk.namespaces import normalise
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import SecretRequest

__all__ = ["NOT_A_NAME", "name_of", "unique_names"]

NOT_A_NAME = "a secret's name and its namespace are 1 to 64 bytes of printable text in NFC"
"""What a guest is told of a request that names no secret."""


def name_of(request: SecretRequest) -> SecretName | None:
    """Return the secret that a guest names, or None if that can be none's name."""
    name = SecretName(normalise(request.namespace), request.id)
    return name if is_name(name.namespace) and is_name(name.key) else None


def unique_names(requests: Iterable[SecretRequest]) -> tuple[SecretName, ...]:
    """Return each secret that is named, once, in the order in which they are named first."""
    return tuple(dict.fromkeys(name for request in requests if (name := name_of(request)) is not None))

"""What an execution in the enclave asks for: the bodies that an attestation document's user data binds.

Rules of this module:

1. A body says for whom it asks (owner, workflow, execution, binary), what is being executed, by which challenge and
   under which configuration, in every method the same. An execution id is empty while a workflow subscribes. Since it
   names the request, whoever hands requests to an enclave cannot have another one executed and use what that asks for.
2. ``decode`` takes exactly what ``encode`` returns: every key, no other, in the deterministic form, within the limits.
   A record that exists is good: its own checks run however it was made.
3. The secrets of a body are in the guest's order, each once, their namespaces normalised.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final, NamedTuple, Self

from attrs import Attribute, field, fields, frozen

from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.errors import malformed, too_large
from innkeeper_confidential_workflows.protocol.fields import (
    BINARY_SHA256_BYTES,
    CHALLENGE_ID_BYTES,
    VERSION,
    capability_text,
    hex_or_empty,
    is_name,
    lower_hex,
    mapping_of,
    matching,
    sized,
)
from innkeeper_confidential_workflows.protocol.hashing import (
    METHOD_CAPABILITY,
    METHOD_RESULT,
    METHOD_SECRETS,
)

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_SECRETS",
    "SUITE",
    "Body",
    "CapabilityBody",
    "ResultBody",
    "SecretName",
    "SecretsBody",
]

MAX_BODY_BYTES: Final = 512 * 1024
# Of a capability's request alone; the reference's enclave returns as much (10 MiB).
MAX_PAYLOAD_BYTES: Final = 10 * 1024 * 1024
MAX_SECRETS: Final = 100
# The one suite; it is said so that another one could never be taken for it.
SUITE: Final = "HPKE-X25519-HKDF-SHA256-AES-256-GCM"

# A guest's callback id, an int32; negative in node mode.
_REFERENCE_ID: Final = re.compile(r"0|-?[1-9][0-9]{0,9}", re.ASCII)
_DIGEST_BYTES: Final = 32


class SecretName(NamedTuple):
    """Which secret of an owner.

    Attributes:
        namespace: Normalised: never empty.
        key: Its name.
    """

    namespace: str
    key: str


@frozen(kw_only=True)
class Body:
    """What all bodies have.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits, lower case, without ``0x``.
        execution_id: 64 hexadecimal digits; empty while subscribing.
        binary_sha256: Of the binary that runs, as it was fetched: 32 bytes.
        request_sha256: Of the request that is executed, as the enclave received it: 32 bytes.
        config_hash: Of the enclave's configuration: 32 bytes.
        challenge_id: 16 bytes.
    """

    METHOD: ClassVar[str]
    LIMIT: ClassVar[int] = MAX_BODY_BYTES

    workflow_id: str = field(validator=lower_hex(64))
    owner: str = field(validator=lower_hex(40))
    execution_id: str = field(validator=hex_or_empty(64))
    binary_sha256: bytes = field(validator=sized(BINARY_SHA256_BYTES))
    request_sha256: bytes = field(validator=sized(_DIGEST_BYTES))
    config_hash: bytes = field(validator=sized(_DIGEST_BYTES))
    challenge_id: bytes = field(validator=sized(CHALLENGE_ID_BYTES))

    def encode(self) -> bytes:
        """Return the body as it is sent.

        Raises:
            AttestationError: ``too_large``.
        """
        content: dict[str, Any] = {a.name: getattr(self, a.name) for a in fields(type(self))}
        data = cbor.encode({"v": VERSION, "method": self.METHOD, **content})
        cbor.check_size(data, limit=self.LIMIT, what="the body")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the record of a body.

        Args:
            data: The body as it was received.

        Raises:
            AttestationError: ``malformed`` or ``too_large``.
        """
        keys = frozenset(a.name for a in fields(cls))
        content = mapping_of(data, keys | {"method"}, limit=cls.LIMIT, what="the body")
        if content.pop("method") != cls.METHOD:
            raise malformed(f"the body's method is not {cls.METHOD}")
        return cls(**content)


def _names(value: object) -> object:
    """Return decoded pairs as names; anything else as it is, for the validator to refuse."""
    if type(value) not in (list, tuple):
        return value
    return tuple(
        SecretName(*pair) if type(pair) in (list, tuple) and len(pair) == 2 else pair
        for pair in value  # type: ignore[attr-defined]  # mypy does not narrow by type() in a tuple
    )


@frozen(kw_only=True)
class SecretsBody(Body):
    """A request for secrets.

    Attributes:
        secrets: 1 to 100 names, each once, in the guest's order.
        suite: How they are to be sealed.
    """

    METHOD = METHOD_SECRETS

    secrets: tuple[SecretName, ...] = field(converter=_names)
    suite: str = field(default=SUITE)

    @secrets.validator
    def _check_secrets(self, _: Attribute[Any], value: object) -> None:
        if type(value) is not tuple or not value:
            raise malformed("secrets is no list of at least one name")
        if len(value) > MAX_SECRETS:
            raise too_large(f"secrets has {len(value)} names, at most {MAX_SECRETS} are allowed")
        if not all(type(name) is SecretName and is_name(name.namespace) and is_name(name.key) for name in value):
            raise malformed("secrets has something that is no pair of a namespace and a key")
        if len(set(value)) != len(value):
            raise malformed("secrets has a name twice")

    @suite.validator
    def _check_suite(self, _: Attribute[Any], value: object) -> None:
        if value != SUITE:
            raise malformed(f"suite is not {SUITE}")


@frozen(kw_only=True)
class CapabilityBody(Body):
    """A call of a capability.

    Attributes:
        reference_id: The guest's callback id, in decimal.
        capability_id: As the guest gave it.
        method_name: The capability's method.
        payload: A serialized ``sdk.v1alpha.CapabilityRequest``.
    """

    METHOD = METHOD_CAPABILITY
    LIMIT = MAX_BODY_BYTES + MAX_PAYLOAD_BYTES

    reference_id: str = field(validator=matching(_REFERENCE_ID, "a decimal number"))
    capability_id: str = field(validator=capability_text)
    method_name: str = field(validator=capability_text)
    payload: bytes = field(repr=False)

    @payload.validator
    def _check_payload(self, _: Attribute[Any], value: object) -> None:
        cbor.check_size(value, limit=MAX_PAYLOAD_BYTES, what="the payload")  # type: ignore[arg-type]  # it checks that


@frozen(kw_only=True)
class ResultBody(Body):
    """The end of an execution.

    Attributes:
        result_sha256: Of the result, as the enclave answers it: 32 bytes.
    """

    METHOD = METHOD_RESULT

    result_sha256: bytes = field(validator=sized(_DIGEST_BYTES))

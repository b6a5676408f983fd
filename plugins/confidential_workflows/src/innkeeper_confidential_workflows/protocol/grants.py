"""Grants: what the host says of an execution that is live, signed by its key.

Rules of this module:

1. A grant names one attempt of one execution and one request of it, and runs out. Whoever releases something compares
   all of it with what the enclave asks: an enclave that was broken into can then ask for nobody but whom the host
   started.
2. The signature covers the bytes of the grant as they are sent, under a prefix that no plugin can have signed.
3. What the execution's restrictions forbid is named by its place in that request. It is answered with its text, and
   never looked up; the rest of the request is granted.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from attrs import Attribute, field, fields, frozen

from innkeeper_confidential_workflows.attestation.errors import Code
from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.bodies import MAX_SECRETS, SecretsBody
from innkeeper_confidential_workflows.protocol.errors import malformed, refusal
from innkeeper_confidential_workflows.protocol.fields import (
    BINARY_SHA256_BYTES,
    MAX_ERROR_CHARACTERS,
    VERSION,
    error_text,
    lower_hex,
    mapping_of,
    natural,
    sized,
)
from innkeeper_confidential_workflows.protocol.hashing import request_digest
from innkeeper_confidential_workflows.protocol.signatures import verify_signature

__all__ = ["GRANT_PREFIX", "Grant", "Refusal", "check_grant", "sign_grant", "verify_grant"]

GRANT_PREFIX: Final = "cw-grant/1"

# A kilobyte for all but the refusals; of these as many as there can be secrets, each of the longest text in UTF-8.
_MAX_BYTES: Final = 1024 + MAX_SECRETS * (4 * MAX_ERROR_CHARACTERS + 8)
_STEP: Final = "grant"
_DIGEST_BYTES: Final = 32


class Refusal(NamedTuple):
    """A secret of the request that is not to be released.

    Attributes:
        place: Which of the request's secrets, from 0.
        error: Why, for the author of the workflow: 1 to 512 characters.
    """

    place: int
    error: str


def _refusals(value: object) -> object:
    """Return decoded pairs as refusals; anything else as it is, for the validator to refuse."""
    if type(value) not in (list, tuple):
        return value
    return tuple(
        Refusal(*pair) if type(pair) in (list, tuple) and len(pair) == 2 else pair
        for pair in value  # type: ignore[attr-defined]  # mypy does not narrow by type() in a tuple
    )


@frozen(kw_only=True)
class Grant:
    """An attempt of an execution that is live.

    Attributes:
        owner: 40 hexadecimal digits.
        workflow_id: 64 hexadecimal digits.
        execution_id: 64 hexadecimal digits.
        attempt: From 1.
        binary_sha256: 32 bytes.
        request_sha256: Of the request's body as it is sent: 32 bytes.
        refused: Which of the request's secrets are not to be released, sorted by place, each once.
        expires_ms: When it runs out, in milliseconds since the epoch.
    """

    owner: str = field(validator=lower_hex(40))
    workflow_id: str = field(validator=lower_hex(64))
    execution_id: str = field(validator=lower_hex(64))
    attempt: int = field(validator=natural(1))
    binary_sha256: bytes = field(validator=sized(BINARY_SHA256_BYTES))
    request_sha256: bytes = field(validator=sized(_DIGEST_BYTES))
    refused: tuple[Refusal, ...] = field(converter=_refusals)
    expires_ms: int = field(validator=natural(1))

    @refused.validator
    def _check_refused(self, attribute: Attribute[Any], value: object) -> None:
        if type(value) is not tuple or not all(type(item) is Refusal for item in value):
            raise malformed("refused is no list of pairs of a place and a text")
        places = [item.place for item in value]
        if not all(type(place) is int and 0 <= place < MAX_SECRETS for place in places):
            raise malformed(f"refused has a place that is not from 0 to {MAX_SECRETS - 1}")
        if places != sorted(set(places)):
            raise malformed("refused is not sorted, or has a place twice")
        for item in value:
            error_text(self, attribute, item.error)

    def encode(self) -> bytes:
        """Return the grant as it is sent and signed."""
        content: dict[str, Any] = {a.name: getattr(self, a.name) for a in fields(type(self))}
        return cbor.encode({"v": VERSION, **content})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the record of a grant.

        Raises:
            AttestationError: ``malformed`` or ``too_large``.
        """
        keys = frozenset(a.name for a in fields(cls))
        return cls(**mapping_of(data, keys, limit=_MAX_BYTES, what="the grant"))


def sign_grant(grant: Grant, sign: Callable[[str, bytes], bytes]) -> tuple[bytes, bytes]:
    """Return a grant as it is sent, and its signature.

    Args:
        grant: The grant.
        sign: The host key's ``sign``.
    """
    data = grant.encode()
    return data, sign(GRANT_PREFIX, data)


def verify_grant(data: bytes, signature: bytes, host_key: bytes, *, now: datetime) -> Grant:
    """Return a grant that the host has signed and that has not run out.

    Args:
        data: The grant as it was received.
        signature: Its signature.
        host_key: The host's Ed25519 key, 32 bytes.
        now: The time.

    Raises:
        AttestationError: ``not_authorized``: another has signed it, it was changed, or it has run out; or it is
            ``malformed`` or ``too_large``.
    """
    cbor.check_size(data, limit=_MAX_BYTES, what="the grant")
    if not verify_signature(host_key, GRANT_PREFIX, data, signature):
        raise refusal(Code.NOT_AUTHORIZED, "the grant is not signed by the host", step=_STEP)
    grant = Grant.decode(data)
    if grant.expires_ms <= now.timestamp() * 1000:
        raise refusal(Code.NOT_AUTHORIZED, "the grant has run out", step=_STEP)
    return grant


def check_grant(grant: Grant, body: SecretsBody) -> None:
    """Refuse a body that asks for another than the one granted.

    Raises:
        AttestationError: ``not_authorized``; the message names the field that differs.
    """
    for name in ("owner", "workflow_id", "execution_id", "binary_sha256"):
        if getattr(grant, name) != getattr(body, name):
            raise refusal(Code.NOT_AUTHORIZED, f"the grant is for another {name}", step=_STEP)
    # A body has one encoding, so this is the digest of the bytes that came.
    if grant.request_sha256 != request_digest(body.encode()):
        raise refusal(Code.NOT_AUTHORIZED, "the grant is for another request_sha256", step=_STEP)
    if grant.refused and grant.refused[-1].place >= len(body.secrets):
        raise refusal(Code.NOT_AUTHORIZED, "the grant refuses a secret that is not asked for", step=_STEP)

"""Verifying an attested request: a body, and the document that binds it.

Rules of this module:

1. The order is fixed: sizes and form of the body, the challenge used up, the document verified with the body's hash as
   its user data, the nonce, the configuration, and what its receiver asks of the body. Whatever comes of it, the
   challenge is gone; and nothing is pinned or returned before all of it held.
2. Who asks is said by the body alone, which the document binds. Where a message around it says so too, both must agree.
3. Pure but for the challenges and for what a trust pins: the clock is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hmac import compare_digest
from typing import Final, Generic, TypeVar

from attrs import field, frozen

from innkeeper_confidential_workflows.attestation import Attestation, Code, Expectations, KeyKind
from innkeeper_confidential_workflows.protocol.bodies import Body, SecretsBody
from innkeeper_confidential_workflows.protocol.challenges import Challenges, Purpose
from innkeeper_confidential_workflows.protocol.configuration import CONFIG_PCR, EnclaveConfig
from innkeeper_confidential_workflows.protocol.errors import malformed, refusal
from innkeeper_confidential_workflows.protocol.hashing import user_data_of
from innkeeper_confidential_workflows.protocol.measurements import Trust

__all__ = ["Verified", "verify_envelope"]

_STEP: Final = "envelope"

B = TypeVar("B", bound=Body)


@frozen
class Verified(Generic[B]):
    """A request that was attested.

    Attributes:
        body: What is asked.
        attestation: What the document says: its public key, nonce and the digest of its payload.
    """

    body: B
    attestation: Attestation = field(repr=False)


def verify_envelope(
    kind: type[B],
    body: bytes,
    document: bytes,
    *,
    challenges: Challenges,
    trust: Trust,
    config: EnclaveConfig,
    now: datetime,
    authorise: Callable[[B], None],
    workflow_id: str | None = None,
    execution_id: str | None = None,
) -> Verified[B]:
    """Verify an attested request.

    Args:
        kind: ``SecretsBody``, ``CapabilityBody`` or ``ResultBody``: what is expected here.
        body: The body as it was received.
        document: The attestation document as it was received.
        challenges: Who has issued the challenge.
        trust: What the document is verified against.
        config: The configuration that an enclave must have been started with.
        now: The time, with a time zone.
        authorise: Raises if the body asks for what it may not have; called when all else has held.
        workflow_id: What the message around the body says, if it does.
        execution_id: The same.

    Returns:
        The request.

    Raises:
        AttestationError: It is refused; its code says by which rule.
        VerificationError: What the trust has pinned is damaged or open to others.
        HostError: It cannot be read or written.
    """
    parsed = kind.decode(body)
    issued = challenges.take(parsed.challenge_id, parsed.workflow_id, parsed.execution_id, Purpose.for_body(kind))
    if workflow_id not in (None, parsed.workflow_id) or execution_id not in (None, parsed.execution_id):
        raise refusal(Code.NOT_AUTHORIZED, "the body is that of another execution than the message", step=_STEP)
    if type(document) is not bytes:
        raise malformed("the document is no byte string")

    def accept(attestation: Attestation) -> None:
        issued.match(attestation.nonce)
        measured = attestation.pcrs.get(CONFIG_PCR, b"")
        if not (compare_digest(parsed.config_hash, config.hash) and compare_digest(measured, config.pcr)):
            raise refusal(
                Code.CONFIG_MISMATCH, "the enclave was started with another configuration than this one", step=_STEP
            )
        authorise(parsed)

    expect = Expectations(
        user_data=user_data_of(kind.METHOD, body),
        not_before=issued.issued,
        # Only secrets are sealed to the document's key.
        public_key=KeyKind.X25519 if kind is SecretsBody else None,
    )
    return Verified(parsed, trust.verify(document, now=now, expect=expect, accept=accept))

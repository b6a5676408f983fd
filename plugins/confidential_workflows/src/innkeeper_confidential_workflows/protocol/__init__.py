"""The protocol cw-attest/1 between what runs in the enclave, the relay and the vault.

A library without asyncio and gRPC: what is hashed and signed, the bodies of requests, challenges, grants, sealing, and
how a request is verified. Refusals are the verifier's ``AttestationError`` with its codes.
"""

from __future__ import annotations

from innkeeper_confidential_workflows.protocol.bodies import (
    MAX_PAYLOAD_BYTES,
    MAX_SECRETS,
    SUITE,
    Body,
    CapabilityBody,
    ResultBody,
    SecretName,
    SecretsBody,
)
from innkeeper_confidential_workflows.protocol.challenges import Challenge, Challenges, IssuedChallenge, Purpose
from innkeeper_confidential_workflows.protocol.configuration import CONFIG_PCR, EnclaveConfig
from innkeeper_confidential_workflows.protocol.envelope import Verified, verify_envelope
from innkeeper_confidential_workflows.protocol.fields import CLOCK_NONCE_BYTES, NAME_BYTES, is_name
from innkeeper_confidential_workflows.protocol.grants import (
    GRANT_PREFIX,
    Grant,
    Refusal,
    check_grant,
    sign_grant,
    verify_grant,
)
from innkeeper_confidential_workflows.protocol.hashing import (
    METHOD_CAPABILITY,
    METHOD_RESULT,
    METHOD_SECRETS,
    domain_hash,
    length_prefixed,
    request_digest,
    user_data_of,
)
from innkeeper_confidential_workflows.protocol.measurements import (
    FirstMeasurement,
    ReferenceTrust,
    Trust,
    trust_for,
)
from innkeeper_confidential_workflows.protocol.releases import (
    MAX_SECRET_BYTES,
    OpenedSecret,
    RefusedSecret,
    Release,
    SealedSecret,
    open_release,
    seal_info,
    sign_release,
    verify_release,
)
from innkeeper_confidential_workflows.protocol.replies import (
    MAX_ANSWER_BYTES,
    REPLY_PREFIX,
    Reply,
    check_reply,
    sign_reply,
)
from innkeeper_confidential_workflows.protocol.sealing import (
    SealInfo,
    new_private_key,
    open_sealed,
    public_key_of,
    seal,
)

__all__ = [
    "CLOCK_NONCE_BYTES",
    "CONFIG_PCR",
    "GRANT_PREFIX",
    "MAX_ANSWER_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_SECRETS",
    "MAX_SECRET_BYTES",
    "METHOD_CAPABILITY",
    "METHOD_RESULT",
    "METHOD_SECRETS",
    "NAME_BYTES",
    "REPLY_PREFIX",
    "SUITE",
    "Body",
    "CapabilityBody",
    "Challenge",
    "Challenges",
    "EnclaveConfig",
    "FirstMeasurement",
    "Grant",
    "IssuedChallenge",
    "OpenedSecret",
    "Purpose",
    "ReferenceTrust",
    "Refusal",
    "RefusedSecret",
    "Release",
    "Reply",
    "ResultBody",
    "SealInfo",
    "SealedSecret",
    "SecretName",
    "SecretsBody",
    "Trust",
    "Verified",
    "check_grant",
    "check_reply",
    "domain_hash",
    "is_name",
    "length_prefixed",
    "new_private_key",
    "open_release",
    "open_sealed",
    "public_key_of",
    "request_digest",
    "seal",
    "seal_info",
    "sign_grant",
    "sign_release",
    "sign_reply",
    "trust_for",
    "user_data_of",
    "verify_envelope",
    "verify_grant",
    "verify_release",
]

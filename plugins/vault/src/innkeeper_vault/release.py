"""Whether secrets are released, and to what they are sealed.

Rules of this module:

1. The order is fixed: the challenge is used up, the document verified with the body's hash and the configuration, then
   the host's grant verified and compared with the body, and only then a measurement pinned or a secret looked at:
   whoever has no grant cannot be the first that is trusted.
2. The owner is the one that host and enclave agree on; a name is looked up among that owner's secrets alone.
3. A secret that there is not is said so in its place; the others are released. So is one that the grant refuses, with
   the grant's text: it is not looked up, and whether there is one shows nowhere.
4. Only an execution gets secrets: a workflow that subscribes has none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from attrs import frozen

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import ReleaseReply, ReleaseRequest
from innkeeper_confidential_workflows.protocol.bodies import SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.challenges import Challenges
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.protocol.envelope import Verified, verify_envelope
from innkeeper_confidential_workflows.protocol.grants import check_grant, verify_grant
from innkeeper_confidential_workflows.protocol.hashing import request_digest
from innkeeper_confidential_workflows.protocol.measurements import Trust
from innkeeper_confidential_workflows.protocol.releases import (
    RefusedSecret,
    Release,
    SealedSecret,
    seal_info,
    sign_release,
)
from innkeeper_confidential_workflows.protocol.sealing import seal
from innkeeper_vault.records import StoredSecret
from innkeeper_vault.store import SecretStore

__all__ = ["Released", "Releases"]

_STEP: Final = "release"


@frozen
class Released:
    """What a release has come to.

    Attributes:
        reply: The signed reply.
        missing: The places of names that there are not, from 0.
        refused: The places of names that the host has refused, from 0.
    """

    reply: ReleaseReply
    missing: tuple[int, ...]
    refused: tuple[int, ...]


class Releases:
    """Decides on releases. Everything here blocks.

    Args:
        store: The secrets.
        challenges: The challenges that were issued.
        trust: What documents are verified against.
    """

    def __init__(self, store: SecretStore, challenges: Challenges, trust: Trust) -> None:
        self._store = store
        self._challenges = challenges
        self._trust = trust

    def release(self, request: ReleaseRequest, *, host_key: bytes | None, now: datetime) -> Released:
        """Answer a request.

        Args:
            request: As it was received.
            host_key: The host's Ed25519 key, 32 bytes; None if it has none.
            now: The time, with a time zone.

        Raises:
            AttestationError: It is refused.
            InnkeeperError: The vault or what it has pinned cannot be used.
        """
        if host_key is None:
            raise AttestationError(Code.NOT_AUTHORIZED, "the host has no key, so that it grants nothing", _STEP)
        keys = self._store.open()
        refused: dict[int, str] = {}

        def authorise(body: SecretsBody) -> None:
            if not body.execution_id:
                raise AttestationError(Code.NOT_AUTHORIZED, "a workflow that subscribes gets no secrets", _STEP)
            grant = verify_grant(request.grant.body, request.grant.signature, host_key, now=now)
            check_grant(grant, body)
            refused.update(grant.refused)

        verified = verify_envelope(
            SecretsBody,
            request.body,
            request.attestation,
            challenges=self._challenges,
            trust=self._trust,
            config=EnclaveConfig(host_key=host_key, vault_key=keys.public_key),
            now=now,
            authorise=authorise,
        )
        body = verified.body
        allowed = [place for place in range(len(body.secrets)) if place not in refused]
        secrets = self._store.get(body.owner, [body.secrets[place] for place in allowed])
        found = dict(zip(allowed, secrets, strict=True))
        items = [
            _refusal(name, refused[place]) if place in refused else _item(verified, name, found[place])
            for place, name in enumerate(body.secrets)
        ]
        release = Release(request_sha256=request_digest(request.body), items=items)
        data, signature = sign_release(release, keys.signing)
        missing = tuple(place for place in allowed if found[place] is None)
        return Released(ReleaseReply(body=data, signature=signature), missing, tuple(refused))


def _item(
    verified: Verified[SecretsBody], name: SecretName, secret: StoredSecret | None
) -> SealedSecret | RefusedSecret:
    if secret is None:
        return _refusal(name, f"secret {name.key} in namespace {name.namespace} not found")
    public_key, nonce = verified.attestation.public_key, verified.attestation.nonce
    if public_key is None or nonce is None:
        raise AttestationError(Code.INTERNAL, "a document was verified without a key or a nonce", _STEP)
    info = seal_info(verified.body, name, secret.version, nonce)
    sealed = seal(public_key, info, secret.value.encode("utf-8"))
    return SealedSecret(namespace=name.namespace, key=name.key, version=secret.version, sealed=sealed)


def _refusal(name: SecretName, error: str) -> RefusedSecret:
    return RefusedSecret(namespace=name.namespace, key=name.key, error=error)

"""A vault with a host and a simulated enclave around it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from attrs import define, field
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from innkeeper_confidential_workflows.nsm import NsmClient
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import (
    EnclaveConfig,
    OpenedSecret,
    RefusedSecret,
    SecretsBody,
    Trust,
    open_release,
    public_key_of,
    request_digest,
    sign_grant,
    trust_for,
    user_data_of,
)
from innkeeper_sdk.capability import Capability, CapabilityRequest, RequestMetadata
from innkeeper_vault.capability import VAULT_ID, VaultCapability
from innkeeper_vault.store import SecretStore
from tests.plugins.confidential_workflows.protocol.protocol_world import (
    EXECUTION,
    OWNER,
    WORKFLOW,
    World,
    secrets_body,
)

__all__ = ["LOGGER", "Asked", "VaultWorld", "call"]

LOGGER = logging.getLogger("vault")
METADATA = RequestMetadata(workflow_id=WORKFLOW, workflow_owner=OWNER, workflow_execution_id=EXECUTION)


async def call(vault: Capability, method: str, message: Message, reply: Any) -> Any:
    """Call a method as a registry does, and return its reply."""
    payload = AnyMessage()
    payload.Pack(message)
    response = await vault.execute(CapabilityRequest(METADATA, VAULT_ID, method, payload))
    answer = reply()
    assert response.payload.Unpack(answer)
    return answer


@define
class Asked:
    """A request as an enclave makes it, with the host's grant."""

    body: SecretsBody
    nonce: bytes
    request: messages.ReleaseRequest


@define
class VaultWorld:
    """The vault of a directory, and everybody who speaks to it.

    Attributes:
        world: Clock, host and enclave.
        folder: The provider's own directory.
    """

    world: World
    folder: Path
    environment: str = "development"
    trust: Trust = field()
    store: SecretStore = field()
    vault: Capability = field()

    @trust.default
    def _trust(self) -> Trust:
        return trust_for(self.environment, self.folder, LOGGER)

    @store.default
    def _store(self) -> SecretStore:
        return SecretStore(self.folder, clock=self.world.clock)

    @vault.default
    def _vault(self) -> Capability:
        return VaultCapability(self.store, self.trust, host_key=self.host_key, logger=LOGGER, clock=self.world.clock)

    async def host_key(self) -> bytes | None:
        return self.world.config.host_key

    @property
    def config(self) -> EnclaveConfig:
        return EnclaveConfig(host_key=self.world.config.host_key, vault_key=self.store.open().public_key)

    def enclave(self, **changes: Any) -> NsmClient:
        return self.world.enclave(**{"config": self.config, **changes})

    async def challenge(self, workflow_id: str = WORKFLOW, execution_id: str = EXECUTION) -> messages.Challenge:
        request = messages.ChallengeRequest(
            workflow_id=workflow_id, execution_id=execution_id, purpose=messages.PURPOSE_SECRETS
        )
        reply: messages.Challenge = await call(self.vault, "Challenge", request, messages.Challenge)
        return reply

    def asked(
        self,
        challenge: messages.Challenge,
        *,
        nonce: bytes | None = None,
        enclave: NsmClient | None = None,
        grant: dict[str, Any] | None = None,
        sign: Any = None,
        public_key: bool = True,
        **changes: Any,
    ) -> Asked:
        """Make a request that is good but for what is said."""
        body = secrets_body(**{"challenge_id": challenge.id, "config_hash": self.config.hash, **changes})
        data = body.encode()
        document = (enclave or self.enclave()).attest(
            user_data=user_data_of(SecretsBody.METHOD, data),
            nonce=challenge.nonce if nonce is None else nonce,
            public_key=public_key_of(self.world.key) if public_key else None,
        )
        granted, signature = sign_grant(
            self.world.grant(**{"request_sha256": request_digest(data), **(grant or {})}), sign or self.world.host_sign
        )
        return Asked(
            body,
            challenge.nonce,
            messages.ReleaseRequest(
                body=data, attestation=document, grant=messages.Grant(body=granted, signature=signature)
            ),
        )

    async def release(self, asked: Asked) -> messages.ReleaseReply:
        reply: messages.ReleaseReply = await call(self.vault, "Release", asked.request, messages.ReleaseReply)
        return reply

    async def identity(self) -> bytes:
        reply: messages.VaultIdentity = await call(self.vault, "Identity", Empty(), messages.VaultIdentity)
        return reply.public_key

    def opened(self, asked: Asked, reply: messages.ReleaseReply) -> tuple[OpenedSecret | RefusedSecret, ...]:
        """Open a reply as the execution's child does."""
        return open_release(
            reply.body,
            reply.signature,
            vault_key=self.config.vault_key,
            request=asked.request.body,
            nonce=asked.nonce,
            private_key=self.world.key,
        )

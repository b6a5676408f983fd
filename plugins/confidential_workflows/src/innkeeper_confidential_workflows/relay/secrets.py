"""Secrets for an execution: admitted here, released by the vault, unopened on the way.

Rules of this module:

1. The vault issues the challenge, verifies the document and seals. Here it is said, under the host's signature, that
   the execution is live, whose it is, and what it runs.
2. A request counts, is recorded and is restricted as one of a workflow in the open. The vault is asked what the enclave
   has attested, whole: a secret that is forbidden is named in the grant, with its text, and the others are released.
3. A grant is for one request and short; it never outlives the execution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, TypeVar

from google.protobuf.message import Message

from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import Grant, Refusal, SecretsBody, request_digest, sign_grant
from innkeeper_confidential_workflows.protocol.fields import MAX_ERROR_CHARACTERS
from innkeeper_confidential_workflows.relay.configuration import VAULT
from innkeeper_confidential_workflows.relay.executions import LiveExecution
from innkeeper_confidential_workflows.relay.messages import answer, told, unpack
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    ErrorCode,
    HostRegistry,
    RequestMetadata,
)
from innkeeper_sdk.errors import InnkeeperError, NotFoundError, WorkflowError
from innkeeper_sdk.hooks import HostKey
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import GetSecretsRequest, SecretError, SecretRequest

__all__ = ["Secrets"]

_M = TypeVar("_M", bound=Message)

# As long as the vault's challenge lives.
_GRANT_SECONDS: Final = 60.0
# Where a helper gives none: a refusal has a text.
_NO_REASON: Final = "the secret is refused"


class Secrets:
    """Asks the vault for what an execution may have.

    Args:
        registry: The way to the vault.
        host_key: What grants are signed with.
        clock: The wall clock; aware datetimes.
    """

    def __init__(self, registry: HostRegistry, host_key: HostKey, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._host_key = host_key
        self._clock = clock

    async def challenge(self, request: messages.ChallengeRequest, live: LiveExecution) -> messages.Challenge:
        """Return the vault's challenge.

        Raises:
            CapabilityError: The vault refused, or is not there.
        """
        return await self._vault("Challenge", request, messages.Challenge, live)

    async def get(
        self, request: messages.AttestedRequest, body: SecretsBody, live: LiveExecution
    ) -> messages.ReleaseReply:
        """Return what the vault releases.

        Args:
            request: As it came; the vault verifies it.
            body: Its body, which names the execution that is live.
            live: The execution.

        Raises:
            CapabilityError: The whole request was refused, by a limit or by the vault; or the vault is not there.
        """
        asked = GetSecretsRequest(
            requests=[SecretRequest(id=name.key, namespace=name.namespace) for name in body.secrets],
            callback_id=_callback_id(body, live),
        )
        try:
            async with live.helper.reserve_secrets(asked) as refusals:
                grant = self._grant(request.body, _refused(refusals, len(body.secrets)), live)
                release = messages.ReleaseRequest(body=request.body, attestation=request.attestation, grant=grant)
                return await self._vault("Release", release, messages.ReleaseReply, live)
        except InnkeeperError as error:
            raise told(error) from error

    def _grant(self, request: bytes, refused: Sequence[Refusal], live: LiveExecution) -> messages.Grant:
        left = min(_GRANT_SECONDS, live.deadline - time.monotonic())
        body, signature = sign_grant(
            Grant(
                owner=live.owner,
                workflow_id=live.workflow_id,
                execution_id=live.execution_id,
                attempt=live.attempt,
                binary_sha256=live.binary_sha256,
                request_sha256=request_digest(request),
                refused=refused,
                expires_ms=int((self._clock() + timedelta(seconds=left)).timestamp() * 1000),
            ),
            self._host_key.sign,
        )
        return messages.Grant(body=body, signature=signature)

    async def _vault(self, method: str, message: Message, cls: type[_M], live: LiveExecution) -> _M:
        call = CapabilityRequest(
            metadata=RequestMetadata(
                workflow_id=live.workflow_id,
                workflow_owner=live.owner,
                workflow_execution_id=live.execution_id,
            ),
            capability_id=VAULT,
            method=method,
            payload=answer(message).payload,
            deadline=live.deadline,
        )
        try:
            return unpack(cls, (await self._registry.execute(call)).payload)
        except NotFoundError as error:
            raise CapabilityError(
                f"there is no {VAULT} for confidential-workflows; see innkeeper plugins list",
                error_code=ErrorCode.FailedPrecondition,
            ) from error


def _refused(refusals: Sequence[SecretError | None], asked: int) -> tuple[Refusal, ...]:
    """Return which secrets the execution's helper refuses, as the grant says it."""
    if len(refusals) != asked:
        raise WorkflowError("not every secret was answered", expected=f"{asked} answers", actual=str(len(refusals)))
    # The grant has room for a text as the restrictions write it, of two names; a longer one is cut.
    return tuple(
        Refusal(place, refusal.error[:MAX_ERROR_CHARACTERS] or _NO_REASON)
        for place, refusal in enumerate(refusals)
        if refusal is not None
    )


def _callback_id(body: SecretsBody, live: LiveExecution) -> int:
    """Return the number that the journal knows a request for secrets by: the same in each attempt.

    A body has no callback id. A request is known by the names that it asks for, and by how often they were asked for
    before; so its number does not depend on which of two requests comes first.
    """
    names = tuple(body.secrets)
    times = live.asked[names] = live.asked.get(names, 0) + 1
    digest = sha256(times.to_bytes(4, "big"))
    for part in (part.encode() for name in names for part in name):
        digest.update(len(part).to_bytes(4, "big") + part)
    return int.from_bytes(digest.digest()[:4], "big", signed=True)

"""The capability ``confidential-relay@1.0.0``: one method for each thing that an enclave may ask.

Rules of this module:

1. It is internal: the host lets nobody call it but this provider's own process. That process is not believed either.
   What has an effect, or gives something away, comes with an attestation document, which is verified here, or by the
   vault where the vault gives it.
2. First the execution must be live, then the document good, then the body of this execution; only then anything is
   done.
3. A call's body and its payload must be of one mind: capability, method and callback id stand in both.
4. A call that fails is an answer, in the form in which a workflow in the open is told. A request that is refused is an
   error, and is told to the log.
5. What a guest takes for true, the answer to a call and the time, is signed by the host, for the request whose bytes
   came: the process in between can lose it, and not invent it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import (
    CLOCK_NONCE_BYTES,
    MAX_ANSWER_BYTES,
    Body,
    CapabilityBody,
    Challenges,
    Purpose,
    Reply,
    ResultBody,
    SecretsBody,
    Trust,
    Verified,
    request_digest,
    sign_reply,
    verify_envelope,
)
from innkeeper_confidential_workflows.relay.configuration import Configuration
from innkeeper_confidential_workflows.relay.executions import LiveExecution, LiveExecutions
from innkeeper_confidential_workflows.relay.messages import answer, parse, refused, told, unpack
from innkeeper_confidential_workflows.relay.secrets import Secrets
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    ErrorVisibility,
    HostRegistry,
)
from innkeeper_sdk.errors import ConflictError, HostError, InnkeeperError, NotFoundError
from innkeeper_sdk.hooks import HostKey
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk

__all__ = ["RELAY", "Relay"]

RELAY: Final = "confidential-relay@1.0.0"

# How much of an id the log gets.
_ID: Final = 64

_B = TypeVar("_B", bound=Body)
_M = TypeVar("_M", bound=Message)


def _now() -> datetime:
    return datetime.now(UTC)


class Relay(Capability):
    """Answers an enclave, for executions that are live.

    Args:
        live: The executions that are live.
        registry: The way to the vault.
        host_key: The host's key.
        trust: What documents are verified against.
        logger: Where refusals are told.
        clock: The wall clock; aware datetimes.
        configuration: What enclaves are started with; made of the registry and the host's key if it is not given.
    """

    def __init__(
        self,
        live: LiveExecutions,
        *,
        registry: HostRegistry,
        host_key: HostKey,
        trust: Trust,
        logger: logging.Logger,
        clock: Callable[[], datetime] = _now,
        configuration: Configuration | None = None,
    ) -> None:
        self._live = live
        self._host_key = host_key
        self._trust = trust
        self._logger = logger
        self._clock = clock
        self._configuration = configuration or Configuration(registry, host_key)
        self._challenges = Challenges(clock)
        self._secrets = Secrets(registry, host_key, clock)
        self._methods: dict[str, Callable[[CapabilityRequest], Awaitable[Message]]] = {
            "Configuration": self._configure,
            "Challenge": partial(self._for_execution, messages.ChallengeRequest, self._challenge),
            "SecretsGet": partial(self._for_execution, messages.AttestedRequest, self._get_secrets),
            "CapabilityExecute": partial(self._signed, messages.AttestedRequest, self._call),
            "ResultSubmit": partial(self._for_execution, messages.AttestedRequest, self._submit),
            "Clock": partial(self._signed, messages.ClockRequest, self._time),
        }
        self._info = CapabilityInfo(id=RELAY, type=CapabilityType.ACTION)

    @property
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself."""
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer an enclave.

        Raises:
            CapabilityError: The request was refused.
        """
        method = self._methods.get(request.method)
        if method is None:
            raise CapabilityError(f"method {request.method:.128} not found", error_code=ErrorCode.Unimplemented)
        try:
            return answer(await method(request))
        except CapabilityError as error:
            self._tell(request, error)
            raise

    async def _configure(self, request: CapabilityRequest) -> messages.EnclaveConfiguration:
        unpack(Empty, request.payload)
        return messages.EnclaveConfiguration(body=(await self._configuration.make()).encode())

    async def _signed(
        self,
        cls: type[_M],
        act: Callable[[_M, LiveExecution], Awaitable[Message]],
        request: CapabilityRequest,
    ) -> messages.SignedReply:
        message = await self._for_execution(cls, act, request)
        reply = Reply(
            method=request.method,
            request_sha256=request_digest(request.payload.value),
            answer=message.SerializeToString(deterministic=True),
        )
        body, signature = sign_reply(reply, self._host_key.sign)
        return messages.SignedReply(body=body, signature=signature)

    async def _for_execution(
        self,
        cls: type[_M],
        act: Callable[[_M, LiveExecution], Awaitable[Message]],
        request: CapabilityRequest,
    ) -> Message:
        asked = unpack(cls, request.payload)
        try:
            # All of these messages name the execution alike.
            live = self._live.get(asked.workflow_id, asked.execution_id)  # type: ignore[attr-defined]  # as said above
            return await live.run(self._unless_finished(act, asked, live))
        except AttestationError as error:
            raise refused(error) from error
        except (NotFoundError, ConflictError) as error:
            raise CapabilityError(f"{Code.NOT_AUTHORIZED}: {error}", error_code=ErrorCode.PermissionDenied) from error

    async def _unless_finished(
        self, act: Callable[[_M, LiveExecution], Awaitable[Message]], asked: _M, live: LiveExecution
    ) -> Message:
        live.check_unfinished()
        return await act(asked, live)

    async def _challenge(self, asked: messages.ChallengeRequest, live: LiveExecution) -> messages.Challenge:
        if Purpose.of(asked.purpose) is Purpose.SECRETS:
            return await self._secrets.challenge(asked, live)
        challenge = self._challenges.issue(live.workflow_id, live.execution_id, Purpose.of(asked.purpose))
        return messages.Challenge(id=challenge.id, nonce=challenge.nonce, expires_ms=challenge.expires_ms)

    async def _get_secrets(self, asked: messages.AttestedRequest, live: LiveExecution) -> messages.ReleaseReply:
        # Not verified here: the vault has issued the challenge, and verifies before it gives anything.
        body = SecretsBody.decode(asked.body)
        _check(body, live)
        if body.config_hash != self._configuration.current.hash:
            raise AttestationError(Code.CONFIG_MISMATCH, "the enclave was started with another configuration")
        return await self._secrets.get(asked, body, live)

    async def _call(self, asked: messages.AttestedRequest, live: LiveExecution) -> sdk.CapabilityResponse:
        body = await self._attested(CapabilityBody, asked, live)
        request = parse(sdk.CapabilityRequest, body.payload, "what the body carries")
        said = (body.capability_id, body.method_name, body.reference_id)
        if said != (request.id, request.method, str(request.callback_id)):
            raise AttestationError(
                Code.NOT_AUTHORIZED, "the body names another capability, method or callback id than its payload"
            )
        try:
            return _bounded(await live.helper.call_capability(request))
        except CapabilityError as error:
            return sdk.CapabilityResponse(error=error.serialize())
        except InnkeeperError as error:
            return sdk.CapabilityResponse(error=str(error))

    async def _submit(self, asked: messages.AttestedRequest, live: LiveExecution) -> Empty:
        body = await self._attested(ResultBody, asked, live)
        live.submit(body.result_sha256)
        return Empty()

    async def _time(self, asked: messages.ClockRequest, live: LiveExecution) -> messages.ClockReply:
        if len(asked.nonce) != CLOCK_NONCE_BYTES:
            raise AttestationError(Code.MALFORMED, f"the nonce is no byte string of {CLOCK_NONCE_BYTES} bytes")
        if asked.request_sha256 != live.request_sha256:
            raise AttestationError(Code.NOT_AUTHORIZED, "the time is asked for another request than the live one")
        try:
            time = await (live.helper.don_time() if asked.don else live.helper.node_time())
        except InnkeeperError as error:
            raise told(error) from error
        return messages.ClockReply(time_ns=time)

    async def _attested(self, kind: type[_B], asked: messages.AttestedRequest, live: LiveExecution) -> _B:
        config = self._configuration.current
        try:
            # In a thread: it takes milliseconds, and what it pins goes to the disk.
            verified: Verified[_B] = await asyncio.to_thread(
                verify_envelope,
                kind,
                asked.body,
                asked.attestation,
                challenges=self._challenges,
                trust=self._trust,
                config=config,
                now=self._clock(),
                authorise=partial(_check, live=live),
                workflow_id=live.workflow_id,
                execution_id=live.execution_id,
            )
        except HostError as error:
            self._logger.error("what is trusted cannot be used, so that nothing is: %s", error)  # noqa: TRY400 - the text says all
            raise CapabilityError(
                f"{Code.INTERNAL}: what is trusted cannot be used; the host's log says why",
                error_code=ErrorCode.Internal,
            ) from error
        return verified.body

    def _tell(self, request: CapabilityRequest, error: CapabilityError) -> None:
        self._logger.warning(
            "the relay refused a request",
            extra={
                "method": request.method[:_ID],
                # As the process says: it is not believed, and may say megabytes.
                "workflow_id": request.metadata.workflow_id[:_ID],
                "execution_id": request.metadata.workflow_execution_id[:_ID],
                "reason": str(error) if error.visibility is ErrorVisibility.PUBLIC else error.error_code.name,
            },
        )


def _bounded(response: sdk.CapabilityResponse) -> sdk.CapabilityResponse:
    """Return an answer, or in its place the error of one that no frame to the enclave holds."""
    if (size := response.ByteSize()) <= MAX_ANSWER_BYTES:
        return response
    error = CapabilityError(
        f"the answer has {size} bytes, at most {MAX_ANSWER_BYTES} reach an enclave",
        error_code=ErrorCode.ResourceExhausted,
    )
    return sdk.CapabilityResponse(error=error.serialize())


def _check(body: Body, live: LiveExecution) -> None:
    """Refuse a body of another execution than the one that is live, or for another request than the one it runs."""
    for name in ("workflow_id", "execution_id", "owner", "binary_sha256", "request_sha256"):
        if getattr(body, name) != getattr(live, name):
            raise AttestationError(Code.NOT_AUTHORIZED, f"the body is for another {name} than the live execution's")

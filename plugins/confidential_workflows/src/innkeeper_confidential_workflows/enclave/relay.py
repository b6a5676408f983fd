"""What an execution asks the host for, each time with an attestation document of its own.

Rules of this module:

1. A request is: a challenge of its purpose, the body, the document over it, the call. No challenge is used twice.
2. A body's identity is that of the registered execution. A guest says which secrets, and which capability with which
   payload; nothing else of a body is its own.
3. What is told of a failure is what a rule of the protocol has refused, and the workflow's own faults. Of everything
   else, which may name the host's parts, that it happened; the enclave's log has its code.
4. Time is asked for without a document: it is public, and the host has its own anyway.
5. A guest takes the answer to a call, and the time, for true. So they are the host's, signed for this request, or there
   is none, and the execution ends: neither an answer nor a failure that the parent may have made up goes to the guest.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar

from attrs import field, frozen
from google.protobuf.message import DecodeError, Message

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.enclave.link import HostLink
from innkeeper_confidential_workflows.nsm.messages import NsmError
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import (
    PURPOSE_CAPABILITY,
    PURPOSE_RESULT,
    PURPOSE_SECRETS,
    AttestedRequest,
    Challenge,
    ChallengeRequest,
    ClockReply,
    ClockRequest,
    Purpose,
    ReleaseReply,
    SignedReply,
)
from innkeeper_confidential_workflows.protocol.bodies import Body, CapabilityBody, ResultBody, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.protocol.fields import CHALLENGE_ID_BYTES, CLOCK_NONCE_BYTES, NONCE_BYTES
from innkeeper_confidential_workflows.protocol.hashing import user_data_of
from innkeeper_confidential_workflows.protocol.replies import check_reply
from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import CapabilityRequest, CapabilityResponse

__all__ = ["Attester", "HostFailedError", "Identity", "Relay", "Released"]

_CODES: Final = frozenset(Code)

_log = logging.getLogger("innkeeper.enclave")

_M = TypeVar("_M", bound=Message)
_B = TypeVar("_B", bound=Body)
_T = TypeVar("_T")


class HostFailedError(Exception):
    """Raised where a guest waits for what only the host can say, and the host has not said it.

    It ends the execution, whose error is :attr:`Relay.fault`. It is none of a capability: that the guest would be told.
    """

    def __init__(self) -> None:
        super().__init__("the host has not answered")


class Attester(Protocol):
    """What makes documents: the NSM."""

    def attest(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """Return a document over these."""


@frozen(kw_only=True)
class Identity:
    """For whom an execution asks: what was registered, and nothing of its guest.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits.
        execution_id: 64 hexadecimal digits; empty while subscribing.
        binary_sha256: Of the binary that runs: 32 bytes.
        request_sha256: Of the request that is executed, as it was received: 32 bytes.
    """

    workflow_id: str
    owner: str
    execution_id: str
    binary_sha256: bytes
    request_sha256: bytes


@frozen(kw_only=True)
class Released:
    """The vault's answer, unopened.

    Attributes:
        request: The body that was sent.
        nonce: Of its challenge.
        release: The answer.
        signature: The vault's.
    """

    request: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    release: bytes = field(repr=False)
    signature: bytes = field(repr=False)


class Relay:
    """The way of one execution to the host.

    Args:
        link: The questions to the parent.
        attester: What makes documents.
        identity: Whose execution it is.
        config: The enclave's configuration.

    Attributes:
        fault: Why the execution has to end, whatever its guest has come to; the first reason, if there are many.
    """

    def __init__(self, link: HostLink, attester: Attester, identity: Identity, config: EnclaveConfig) -> None:
        self._link = link
        self._attester = attester
        self._identity = identity
        self._host_key = config.host_key
        self._config_hash = config.hash
        self.fault: CapabilityError | None = None

    async def secrets(self, names: tuple[SecretName, ...], public_key: bytes) -> Released:
        """Ask the vault for secrets, to be sealed to a key.

        Raises:
            CapabilityError: The relay or the vault refused.
        """
        challenge = await self._challenge(PURPOSE_SECRETS)
        body = self._body(SecretsBody, challenge, secrets=names)
        reply = await self._attested("SecretsGet", body, challenge, ReleaseReply, public_key)
        return Released(request=body.encode(), nonce=challenge.nonce, release=reply.body, signature=reply.signature)

    async def capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability.

        Raises:
            CapabilityError: The request is none that can be sent; the guest may be told.
            HostFailedError: The relay refused, or what came is not its reply.
        """
        payload = request.SerializeToString(deterministic=True)
        challenge = await self._or_end(self._challenge(PURPOSE_CAPABILITY))
        body = self._body(
            CapabilityBody,
            challenge,
            reference_id=str(request.callback_id),
            capability_id=request.id,
            method_name=request.method,
            payload=payload,
        )
        asked = self._request(body, challenge)
        return await self._or_end(self._signed("CapabilityExecute", asked, CapabilityResponse))

    async def result(self, result_sha256: bytes) -> None:
        """Say, attested, what an execution has come to.

        Args:
            result_sha256: Of the serialized result as it is answered.

        Raises:
            CapabilityError: The relay refused.
        """
        challenge = await self._challenge(PURPOSE_RESULT)
        body = self._body(ResultBody, challenge, result_sha256=result_sha256)
        request = self._request(body, challenge)
        await self._call("ResultSubmit", request)

    async def time(self, *, don: bool) -> int:
        """Return the host's time, in nanoseconds since the epoch.

        Args:
            don: Whether the DON's, each read of which is another one.

        Raises:
            HostFailedError: The relay refused, or what came is not its reply.
        """
        request = ClockRequest(
            workflow_id=self._identity.workflow_id,
            execution_id=self._identity.execution_id,
            don=don,
            request_sha256=self._identity.request_sha256,
            nonce=secrets.token_bytes(CLOCK_NONCE_BYTES),
        )
        return (await self._or_end(self._signed("Clock", request, ClockReply))).time_ns

    async def _challenge(self, purpose: Purpose.ValueType) -> Challenge:
        request = ChallengeRequest(
            workflow_id=self._identity.workflow_id, execution_id=self._identity.execution_id, purpose=purpose
        )
        challenge = _parse(Challenge, await self._call("Challenge", request))
        if (len(challenge.id), len(challenge.nonce)) != (CHALLENGE_ID_BYTES, NONCE_BYTES):
            raise CapabilityError(
                f"{Code.MALFORMED}: the relay's challenge has another size", error_code=ErrorCode.Internal
            )
        return challenge

    def _body(self, kind: type[_B], challenge: Challenge, **fields: object) -> _B:
        identity = self._identity
        try:
            return kind(
                workflow_id=identity.workflow_id,
                owner=identity.owner,
                execution_id=identity.execution_id,
                binary_sha256=identity.binary_sha256,
                request_sha256=identity.request_sha256,
                config_hash=self._config_hash,
                challenge_id=challenge.id,
                **fields,
            )
        except AttestationError as error:
            # A guest may name a capability as it likes.
            raise CapabilityError(str(error), error_code=ErrorCode.InvalidArgument) from None

    async def _or_end(self, answer: Awaitable[_T]) -> _T:
        try:
            return await answer
        except CapabilityError as error:
            if self.fault is None:
                self.fault = error
            raise HostFailedError from None

    async def _signed(self, method: str, request: Message, kind: type[_M]) -> _M:
        data = request.SerializeToString(deterministic=True)
        reply = _parse(SignedReply, await self._send(method, data))
        try:
            answer = check_reply(reply.body, reply.signature, host_key=self._host_key, method=method, request=data)
        except AttestationError as error:
            _log.error("what came as the answer to %s is not the host's: %s", method, error.code)
            raise CapabilityError(str(error), error_code=ErrorCode.Internal) from None
        return _parse(kind, answer)

    async def _attested(
        self, method: str, body: Body, challenge: Challenge, kind: type[_M], public_key: bytes | None = None
    ) -> _M:
        return _parse(kind, await self._call(method, self._request(body, challenge, public_key)))

    def _request(self, body: Body, challenge: Challenge, public_key: bytes | None = None) -> AttestedRequest:
        try:
            data = body.encode()
        except AttestationError as error:
            raise CapabilityError(str(error), error_code=ErrorCode.InvalidArgument) from None
        try:
            document = self._attester.attest(
                user_data=user_data_of(body.METHOD, data), nonce=challenge.nonce, public_key=public_key
            )
        except NsmError as error:
            raise CapabilityError(f"internal: {error}", error_code=ErrorCode.Internal) from None
        return AttestedRequest(
            workflow_id=self._identity.workflow_id,
            execution_id=self._identity.execution_id,
            body=data,
            attestation=document,
        )

    async def _call(self, method: str, request: Message) -> bytes:
        return await self._send(method, request.SerializeToString(deterministic=True))

    async def _send(self, method: str, data: bytes) -> bytes:
        identity = self._identity
        try:
            return await self._link.ask(
                method,
                data,
                workflow_id=identity.workflow_id,
                owner=identity.owner,
                execution_id=identity.execution_id,
            )
        except CapabilityError as error:
            raise _told(error, method) from None


def _told(error: CapabilityError, method: str) -> CapabilityError:
    code = error.message.partition(":")[0]
    if error.visibility is ErrorVisibility.PUBLIC and (error.origin is Origin.USER or code in _CODES):
        return error
    _log.warning("the host did not answer %s: %s", method, error.error_code.name)
    return CapabilityError("internal: the host could not answer", error_code=error.error_code)


def _parse(kind: type[_M], data: bytes) -> _M:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise CapabilityError(
            f"the relay has answered with what is no {kind.DESCRIPTOR.name}", error_code=ErrorCode.Internal
        ) from None

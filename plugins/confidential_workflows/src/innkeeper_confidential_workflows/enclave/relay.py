"""What an execution asks the host for, each time with an attestation document of its own.

Rules of this module:

1. A request is: a challenge of its purpose, the body, the document over it, the call. No challenge is used twice.
2. A body's identity is that of the registered execution. A guest says which secrets, and which capability with which
   payload; nothing else of a body is its own.
3. What is told of a failure is what a rule of the protocol has refused, and the workflow's own faults. Of everything
   else, which may name the host's parts, that it happened; the enclave's log has its code.
4. Time is asked for without a document: it is public, and the host has its own anyway.
"""

from __future__ import annotations

import logging
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
)
from innkeeper_confidential_workflows.protocol.bodies import Body, CapabilityBody, ResultBody, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.hashing import user_data_of
from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility, Origin
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import CapabilityRequest, CapabilityResponse

__all__ = ["Attester", "Identity", "Relay", "Released"]

_CODES: Final = frozenset(Code)

_log = logging.getLogger("innkeeper.enclave")

_M = TypeVar("_M", bound=Message)
_B = TypeVar("_B", bound=Body)


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
        config_hash: Of the enclave's configuration.
    """

    def __init__(self, link: HostLink, attester: Attester, identity: Identity, config_hash: bytes) -> None:
        self._link = link
        self._attester = attester
        self._identity = identity
        self._config_hash = config_hash

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
            CapabilityError: The relay refused, or the call failed.
        """
        payload = request.SerializeToString(deterministic=True)
        challenge = await self._challenge(PURPOSE_CAPABILITY)
        body = self._body(
            CapabilityBody,
            challenge,
            reference_id=str(request.callback_id),
            capability_id=request.id,
            method_name=request.method,
            payload=payload,
        )
        return await self._attested("CapabilityExecute", body, challenge, CapabilityResponse)

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
            CapabilityError: The relay refused.
        """
        request = ClockRequest(
            workflow_id=self._identity.workflow_id, execution_id=self._identity.execution_id, don=don
        )
        return _parse(ClockReply, await self._call("Clock", request)).time_ns

    async def _challenge(self, purpose: Purpose.ValueType) -> Challenge:
        request = ChallengeRequest(
            workflow_id=self._identity.workflow_id, execution_id=self._identity.execution_id, purpose=purpose
        )
        return _parse(Challenge, await self._call("Challenge", request))

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
            # A guest may name a capability as it likes, and a parent may make up a challenge.
            raise CapabilityError(str(error), error_code=ErrorCode.InvalidArgument) from None

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
        identity = self._identity
        try:
            return await self._link.ask(
                method,
                request.SerializeToString(deterministic=True),
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

"""The capability ``vault@1.0.0``.

Rules of this module:

1. Only callers that the host lets through come here, and nothing is built on that: a request stands for itself.
2. A refusal is told by its code and one sentence. What goes wrong inside is in the log, and the caller learns only that
   something did.
3. Files, verification and sealing are work for a thread; the loop only hands it over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, NoReturn, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol.challenges import Challenges, Purpose
from innkeeper_confidential_workflows.protocol.errors import refusal
from innkeeper_confidential_workflows.protocol.measurements import Trust
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    MethodInfo,
)
from innkeeper_sdk.errors import InnkeeperError
from innkeeper_vault.audit import RELEASED, Decision, record
from innkeeper_vault.release import Releases
from innkeeper_vault.store import SecretStore

__all__ = ["VAULT_ID", "VaultCapability"]

VAULT_ID: Final = "vault@1.0.0"

_PACKAGE: Final = "innkeeper.confidential.v1"
_INFO: Final = CapabilityInfo(
    id=VAULT_ID,
    type=CapabilityType.ACTION,
    description="Releases an owner's secrets to attested executions, sealed to them",
    methods={
        "Identity": MethodInfo("Identity", "google.protobuf.Empty", f"{_PACKAGE}.VaultIdentity", idempotent=True),
        "Challenge": MethodInfo("Challenge", f"{_PACKAGE}.ChallengeRequest", f"{_PACKAGE}.Challenge"),
        "Release": MethodInfo("Release", f"{_PACKAGE}.ReleaseRequest", f"{_PACKAGE}.ReleaseReply"),
    },
)
_CODES: Final = {
    Code.MALFORMED: ErrorCode.InvalidArgument,
    Code.TOO_LARGE: ErrorCode.InvalidArgument,
    Code.RATE_LIMITED: ErrorCode.ResourceExhausted,
    Code.INTERNAL: ErrorCode.Internal,
}
_STEP: Final = "challenge"

_M = TypeVar("_M", bound=Message)


class VaultCapability(Capability):
    """The vault as other providers call it.

    Args:
        store: The secrets.
        trust: What documents are verified against.
        host_key: Asks for the host's Ed25519 key; None if it has none.
        logger: Where decisions are written.
        clock: What time it is, with a time zone.
    """

    def __init__(
        self,
        store: SecretStore,
        trust: Trust,
        *,
        host_key: Callable[[], Awaitable[bytes | None]],
        logger: logging.Logger,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._challenges = Challenges(clock)
        self._releases = Releases(store, self._challenges, trust)
        self._host_key = host_key
        self._logger = logger
        self._clock = clock

    @property
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself."""
        return _INFO

    async def start(self) -> None:
        """Read the vault, or make it: a damaged one does not serve.

        Raises:
            InnkeeperError: It cannot be used.
        """
        await asyncio.to_thread(self._store.open)

    async def close(self) -> None:
        """Let go of what was read."""
        await asyncio.to_thread(self._store.close)

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Raises:
            CapabilityError: It is refused; its message begins with the code of the refusal.
        """
        match request.method:
            case "Identity":
                _unpack(request.payload, Empty)
                return _packed(messages.VaultIdentity(public_key=await self._public_key()))
            case "Challenge":
                return _packed(self._challenge(_unpack(request.payload, messages.ChallengeRequest)))
            case "Release":
                return _packed(await self._release(_unpack(request.payload, messages.ReleaseRequest)))
            case _:
                return await super().execute(request)

    async def _public_key(self) -> bytes:
        try:
            return (await asyncio.to_thread(self._store.open)).public_key
        except InnkeeperError as error:
            self._logger.error("the vault cannot be read: %s", error)  # noqa: TRY400 - the sentence says all of it
            _internal()

    def _challenge(self, request: messages.ChallengeRequest) -> messages.Challenge:
        try:
            if Purpose.of(request.purpose) is not Purpose.SECRETS:
                raise refusal(Code.NOT_AUTHORIZED, "the vault issues challenges for secrets only", step=_STEP)
            if not request.execution_id:
                raise refusal(Code.NOT_AUTHORIZED, "a workflow that subscribes gets no secrets", step=_STEP)
            issued = self._challenges.issue(request.workflow_id, request.execution_id, Purpose.SECRETS)
        except AttestationError as error:
            self._logger.warning("challenge refused: %s", error)
            raise _told(error) from None
        return messages.Challenge(id=issued.id, nonce=issued.nonce, expires_ms=issued.expires_ms)

    async def _release(self, request: messages.ReleaseRequest) -> messages.ReleaseReply:
        code, step = Code.INTERNAL.value, ""
        missing: tuple[int, ...] = ()
        refused: tuple[int, ...] = ()
        try:
            host_key = await self._host_key()
            released = await asyncio.to_thread(self._releases.release, request, host_key=host_key, now=self._clock())
        except AttestationError as error:
            code, step = error.code.value, error.step
            raise _told(error) from None
        except InnkeeperError as error:
            self._logger.error("the vault cannot answer: %s", error)  # noqa: TRY400 - the sentence says all of it
            _internal()
        except Exception as error:  # noqa: BLE001 - an unforeseen error's text could hold anything, a secret too
            self._logger.error("the vault failed: %s", type(error).__name__)  # noqa: TRY400 - and so could its trace
            _internal()
        else:
            code, missing, refused = RELEASED, released.missing, released.refused
            return released.reply
        finally:
            record(self._logger, Decision(code, step, request.body, request.attestation, missing, refused))


def _unpack(payload: AnyMessage, kind: type[_M]) -> _M:
    message = kind()
    try:
        unpacked = payload.Unpack(message)
    except DecodeError:
        unpacked = False
    if not unpacked:
        raise _told(AttestationError(Code.MALFORMED, f"the payload is no {kind.DESCRIPTOR.full_name}", "message"))
    return message


def _packed(message: Message) -> CapabilityResponse:
    payload = AnyMessage()
    payload.Pack(message)
    return CapabilityResponse(payload)


def _told(error: AttestationError) -> CapabilityError:
    return CapabilityError(str(error), error_code=_CODES.get(error.code, ErrorCode.PermissionDenied))


def _internal() -> NoReturn:
    raise _told(AttestationError(Code.INTERNAL, "the vault failed; its log says why")) from None

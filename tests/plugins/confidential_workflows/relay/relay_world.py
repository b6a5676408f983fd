"""A relay with everything real around it that can be: an enclave's NSM, the verifier, keys and grants.

The registry is the one fake: it answers as the vault would, or as a test says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_confidential_workflows.nsm import MODULE_PREFIX, Authority, NsmClient, SimulatedNsm, simulated_pcr
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import (
    CONFIG_PCR,
    Body,
    CapabilityBody,
    Challenges,
    EnclaveConfig,
    FirstMeasurement,
    Purpose,
    ResultBody,
    SecretName,
    SecretsBody,
    check_reply,
    new_private_key,
    public_key_of,
    user_data_of,
    verify_grant,
)
from innkeeper_confidential_workflows.relay.capability import RELAY, Relay
from innkeeper_confidential_workflows.relay.configuration import VAULT, Configuration
from innkeeper_confidential_workflows.relay.executions import LiveExecution, LiveExecutions
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    RequestMetadata,
)
from innkeeper_sdk.errors import NotFoundError
from innkeeper_sdk.module import UserMetric
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from innkeeper_sdk.signing import peer_id_payload

WORKFLOW = "00" + "ab" * 31
OWNER = "cd" * 20
EXECUTION = "ef" * 32
OTHER = "12" * 32
BINARY = sha256(b"the binary").digest()
REQUEST = sha256(b"the request").digest()
RESULT = sha256(b"the result").digest()
CANARY = "canary-7f3a"

M = TypeVar("M", bound=Message)
Answers = Callable[[CapabilityRequest], Awaitable[Message]]


def packed(message: Message) -> AnyMessage:
    """Return a message as a payload."""
    payload = AnyMessage()
    payload.Pack(message)
    return payload


@define(eq=False)
class Clock:
    """A wall clock that a test sets."""

    time: datetime = field(factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.time

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.time += timedelta(seconds=seconds)


class HostKey:
    """A host's key."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, prefix: str, message: bytes) -> bytes:
        return self._key.sign(peer_id_payload(prefix, message))


class FakeRegistry:
    """A provider's registry whose capabilities are functions, by id and method."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answers] = {}
        self.calls: list[CapabilityRequest] = []
        self._ready: dict[str, asyncio.Event] = {}

    def add(self, capability_id: str, method: str, answers: Answers) -> None:
        """Let a method be answered, and its capability be ready."""
        self.answers[capability_id, method] = answers
        self.set_ready(capability_id)

    def set_ready(self, capability_id: str, ready: bool = True) -> None:
        """Say whether a capability is ready; it is known from then on."""
        event = self._ready.setdefault(capability_id, asyncio.Event())
        if ready:
            event.set()
        else:
            event.clear()

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.calls.append(request)
        if request.capability_id not in self._ready:
            raise NotFoundError(f"capability {request.capability_id} not found")
        if not self._ready[request.capability_id].is_set():
            raise CapabilityError("not available", error_code=ErrorCode.Unavailable)
        answer = await self.answers[request.capability_id, request.method](request)
        if isinstance(answer, AnyMessage):
            return CapabilityResponse(payload=answer)
        return CapabilityResponse(payload=packed(answer))

    async def list(self) -> list[CapabilityInfo]:
        return []

    def ready(self, capability_id: str) -> bool:
        return capability_id in self._ready and self._ready[capability_id].is_set()

    async def wait_ready(self, capability_id: str) -> None:
        if capability_id not in self._ready:
            raise NotFoundError(f"capability {capability_id} not found")
        await self._ready[capability_id].wait()


@define(eq=False)
class FakeHelper:
    """An execution's helper that remembers what reached it."""

    execution_id: str = EXECUTION
    calls: list[sdk.CapabilityRequest] = field(factory=list)
    reserved: list[sdk.GetSecretsRequest] = field(factory=list)
    places: int = 0
    refusals: dict[str, str] = field(factory=dict)
    fault: Exception | None = None
    hold: asyncio.Event | None = None
    cancelled: bool = False

    async def call_capability(self, request: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        self.calls.append(request)
        if self.fault is not None:
            raise self.fault
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        return sdk.CapabilityResponse(payload=packed(StringValue(value="answer")))

    async def get_secrets(self, request: sdk.GetSecretsRequest) -> Sequence[sdk.SecretResponse]:
        raise AssertionError("no secret of a confidential execution is read by the host")

    def reserve_secrets(
        self, request: sdk.GetSecretsRequest
    ) -> AbstractAsyncContextManager[Sequence[sdk.SecretError | None]]:
        return self._reserve(request)

    @asynccontextmanager
    async def _reserve(self, request: sdk.GetSecretsRequest) -> AsyncIterator[Sequence[sdk.SecretError | None]]:
        self.reserved.append(request)
        if self.fault is not None:
            raise self.fault
        self.places += 1
        try:
            yield [
                sdk.SecretError(id=item.id, error=self.refusals[item.id]) if item.id in self.refusals else None
                for item in request.requests
            ]
        finally:
            self.places -= 1

    async def node_time(self) -> int:
        if self.fault is not None:
            raise self.fault
        return 1_000_000_007

    async def don_time(self) -> int:
        return 1_000_000_009

    def emit_log(self, message: str) -> None:
        raise AssertionError("nothing a confidential guest logs leaves the enclave")

    def emit_metric(self, metric: UserMetric) -> None:
        raise AssertionError("no metric of a confidential guest leaves the enclave")


class Vault:
    """A vault that gives sealed bytes to whom the host has granted them."""

    def __init__(self, host_key: HostKey, clock: Clock) -> None:
        self.key = HostKey()
        self.challenges = Challenges(clock)
        self.releases: list[messages.ReleaseRequest] = []
        self.grants: list[Any] = []
        self.fault: Exception | None = None
        self._host_key = host_key
        self._clock = clock

    def register(self, registry: FakeRegistry) -> None:
        """Put the vault's methods into a registry."""
        registry.add(VAULT, "Identity", self.identity)
        registry.add(VAULT, "Challenge", self.challenge)
        registry.add(VAULT, "Release", self.release)

    async def identity(self, request: CapabilityRequest) -> Message:
        return messages.VaultIdentity(public_key=self.key.public_key)

    async def challenge(self, request: CapabilityRequest) -> Message:
        asked = messages.ChallengeRequest()
        assert request.payload.Unpack(asked)
        issued = self.challenges.issue(asked.workflow_id, asked.execution_id, Purpose.of(asked.purpose))
        return messages.Challenge(id=issued.id, nonce=issued.nonce, expires_ms=issued.expires_ms)

    async def release(self, request: CapabilityRequest) -> Message:
        asked = messages.ReleaseRequest()
        assert request.payload.Unpack(asked)
        if self.fault is not None:
            raise self.fault
        self.releases.append(asked)
        self.grants.append(
            verify_grant(asked.grant.body, asked.grant.signature, self._host_key.public_key, now=self._clock())
        )
        return messages.ReleaseReply(body=f"sealed {CANARY}".encode(), signature=b"s" * 64)


class _Direct:
    """The way to an NSM in the same process."""

    def __init__(self, nsm: SimulatedNsm) -> None:
        self._nsm = nsm

    def exchange(self, request: bytes) -> bytes:
        return self._nsm.handle(request)


class Enclave:
    """A simulated enclave, started with a configuration."""

    def __init__(self, authority: Authority, clock: Clock, config: EnclaveConfig, *, code: bytes = b"code") -> None:
        pcrs = {index: simulated_pcr(index, code) for index in (0, 1, 2)}
        nsm = SimulatedNsm(authority, module_id=f"{MODULE_PREFIX}test", pcrs=pcrs, clock=clock)
        self.config = config
        self.nsm = NsmClient(_Direct(nsm))
        self.nsm.extend(CONFIG_PCR, config.extension)
        self.nsm.lock(CONFIG_PCR)

    def document(self, body: Body, nonce: bytes) -> bytes:
        """Return a document over a body."""
        key = public_key_of(new_private_key()) if isinstance(body, SecretsBody) else None
        return self.nsm.attest(user_data=user_data_of(body.METHOD, body.encode()), nonce=nonce, public_key=key)


@define(eq=False)
class RelayWorld:
    """A relay, the host's side of it, and an enclave that asks."""

    relay: Relay
    live: LiveExecutions
    registry: FakeRegistry
    vault: Vault
    helper: FakeHelper
    clock: Clock
    host_key: HostKey
    authority: Authority
    enclave: Enclave

    async def ask(self, method: str, message: Message, cls: type[M]) -> M:
        """Call a method of the relay as the provider's process does."""
        request = CapabilityRequest(
            metadata=RequestMetadata(workflow_id=WORKFLOW, workflow_owner=OWNER, workflow_execution_id=EXECUTION),
            capability_id=RELAY,
            method=method,
            payload=packed(message),
        )
        response = cls()
        assert (await self.relay.execute(request)).payload.Unpack(response)
        return response

    async def ask_signed(self, method: str, message: Message, cls: type[M]) -> M:
        """Call a method whose reply the host signs; check it as the enclave does."""
        reply = await self.ask(method, message, messages.SignedReply)
        answer = check_reply(
            reply.body,
            reply.signature,
            host_key=self.enclave.config.host_key,
            method=method,
            request=packed(message).value,
        )
        return cls.FromString(answer)

    async def challenge(
        self, purpose: Purpose, *, workflow_id: str = WORKFLOW, execution_id: str = EXECUTION
    ) -> messages.Challenge:
        """Get a challenge."""
        asked = messages.ChallengeRequest(
            workflow_id=workflow_id, execution_id=execution_id, purpose=messages.Purpose.ValueType(purpose)
        )
        return await self.ask("Challenge", asked, messages.Challenge)

    def body(self, kind: type[Body], challenge: messages.Challenge, **changes: Any) -> Body:
        """Return a good body of a kind, but for the changes."""
        content: dict[str, Any] = {
            "workflow_id": WORKFLOW,
            "owner": OWNER,
            "execution_id": EXECUTION,
            "binary_sha256": BINARY,
            "request_sha256": REQUEST,
            "config_hash": self.enclave.config.hash,
            "challenge_id": challenge.id,
        }
        if kind is SecretsBody:
            content |= {"secrets": (SecretName("main", "KEY"),)}
        elif kind is CapabilityBody:
            payload = capability_request().SerializeToString()
            content |= {
                "reference_id": "7",
                "capability_id": "test@1.0.0",
                "method_name": "Do",
                "payload": payload,
            }
        else:
            content |= {"result_sha256": RESULT}
        return kind(**(content | changes))

    def envelope(self, body: Body, nonce: bytes, *, enclave: Enclave | None = None) -> messages.AttestedRequest:
        """Return a body with its document."""
        document = (enclave or self.enclave).document(body, nonce)
        return messages.AttestedRequest(
            workflow_id=body.workflow_id, execution_id=body.execution_id, body=body.encode(), attestation=document
        )

    async def request(
        self, kind: type[Body], *, enclave: Enclave | None = None, **changes: Any
    ) -> messages.AttestedRequest:
        """Return a whole attested request, by a challenge of its own."""
        challenge = await self.challenge(PURPOSES[kind])
        return self.envelope(self.body(kind, challenge, **changes), challenge.nonce, enclave=enclave)

    async def call(self, **changes: Any) -> sdk.CapabilityResponse:
        """Call a capability, attested."""
        return await self.ask_signed(
            "CapabilityExecute", await self.request(CapabilityBody, **changes), sdk.CapabilityResponse
        )

    async def submit(self, **changes: Any) -> Empty:
        """Submit a result, attested."""
        return await self.ask("ResultSubmit", await self.request(ResultBody, **changes), Empty)

    async def secrets(self, **changes: Any) -> messages.ReleaseReply:
        """Ask for secrets, attested."""
        return await self.ask("SecretsGet", await self.request(SecretsBody, **changes), messages.ReleaseReply)

    def execution(self, **changes: Any) -> LiveExecution:
        """Return an execution that is not registered yet."""
        return evolve(
            LiveExecution(
                workflow_id=WORKFLOW,
                owner=OWNER,
                execution_id=EXECUTION,
                attempt=1,
                binary_sha256=BINARY,
                request_sha256=REQUEST,
                deadline=time.monotonic() + 60,
                helper=self.helper,
            ),
            **changes,
        )


PURPOSES: dict[type[Body], Purpose] = {
    SecretsBody: Purpose.SECRETS,
    CapabilityBody: Purpose.CAPABILITY,
    ResultBody: Purpose.RESULT,
}


def capability_request(**changes: Any) -> sdk.CapabilityRequest:
    """Return a guest's call."""
    content: dict[str, Any] = {
        "id": "test@1.0.0",
        "method": "Do",
        "callback_id": 7,
        "payload": packed(StringValue(value=CANARY)),
    }
    return sdk.CapabilityRequest(**(content | changes))


def clock_request(**changes: Any) -> messages.ClockRequest:
    """Return a reading of the time by the live execution."""
    content: dict[str, Any] = {
        "workflow_id": WORKFLOW,
        "execution_id": EXECUTION,
        "request_sha256": REQUEST,
        "nonce": bytes(range(16)),
    }
    return messages.ClockRequest(**(content | changes))


def challenge_request(purpose: str) -> messages.ChallengeRequest:
    """Return what a challenge of the live execution is asked for with."""
    return messages.ChallengeRequest(
        workflow_id=WORKFLOW, execution_id=EXECUTION, purpose=messages.Purpose.Value(purpose)
    )


async def relay_world(folder: Path) -> RelayWorld:
    """Return a relay, and an enclave that it has given its configuration to."""
    clock, host_key, registry, live = Clock(), HostKey(), FakeRegistry(), LiveExecutions()
    vault = Vault(host_key, clock)
    vault.register(registry)
    relay = Relay(
        live,
        registry=registry,
        host_key=host_key,
        trust=FirstMeasurement(folder / "trust" / "first.json", logging.getLogger("test.trust")),
        logger=logging.getLogger("test.relay"),
        clock=clock,
        configuration=Configuration(registry, host_key, patience=0.05),
    )
    authority = Authority.create(clock=clock)
    config = EnclaveConfig(host_key=host_key.public_key, vault_key=vault.key.public_key)
    world = RelayWorld(
        relay=relay,
        live=live,
        registry=registry,
        vault=vault,
        helper=FakeHelper(),
        clock=clock,
        host_key=host_key,
        authority=authority,
        enclave=Enclave(authority, clock, config),
    )
    given = await world.ask("Configuration", Empty(), messages.EnclaveConfiguration)
    assert given.body == config.encode()
    return world

"""A simulated enclave, a host and a vault, with a clock that tests set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from innkeeper_confidential_workflows.nsm import Authority, NsmClient, SimulatedNsm
from innkeeper_confidential_workflows.protocol import (
    CONFIG_PCR,
    Body,
    CapabilityBody,
    EnclaveConfig,
    Grant,
    ResultBody,
    SecretName,
    SecretsBody,
    new_private_key,
    public_key_of,
    request_digest,
    user_data_of,
)
from innkeeper_confidential_workflows.protocol.signatures import sign

WORKFLOW = "a1" * 32
EXECUTION = "e1" * 32
OWNER = "0f" * 20
BINARY = b"\xb1" * 32

# The order of the curve P-384 (FIPS 186-5).
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973


@define
class Clock:
    """A clock that stands until a test sets it."""

    now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.now.timestamp()


class _Direct:
    def __init__(self, nsm: SimulatedNsm) -> None:
        self._nsm = nsm

    def exchange(self, request: bytes) -> bytes:
        return self._nsm.handle(request)


@define
class World:
    """A host, a vault and an enclave that trust each other."""

    clock: Clock
    authority: Authority
    host: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    vault: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    key: X25519PrivateKey = field(factory=new_private_key)

    @property
    def config(self) -> EnclaveConfig:
        return EnclaveConfig(
            host_key=self.host.public_key().public_bytes_raw(), vault_key=self.vault.public_key().public_bytes_raw()
        )

    def pcrs(self, release: str = "one") -> dict[int, bytes]:
        return {index: (release.encode() + bytes([index])).ljust(48, b"\xcc") for index in (0, 1, 2, 4, 8)}

    def enclave(
        self,
        *,
        authority: Authority | None = None,
        pcrs: dict[int, bytes] | None = None,
        config: EnclaveConfig | None = None,
        configured: bool = True,
    ) -> NsmClient:
        nsm = SimulatedNsm(
            authority or self.authority,
            module_id="i-INSECURE-SIM-test",
            pcrs=self.pcrs() if pcrs is None else pcrs,
            clock=self.clock,
        )
        client = NsmClient(_Direct(nsm))
        if configured:
            client.extend(CONFIG_PCR, (config or self.config).extension)
            client.lock(CONFIG_PCR)
        return client

    def document(
        self, body: bytes, nonce: bytes | None, *, kind: type[Body] = SecretsBody, enclave: NsmClient | None = None
    ) -> bytes:
        return (enclave or self.enclave()).attest(
            user_data=user_data_of(kind.METHOD, body), nonce=nonce, public_key=public_key_of(self.key)
        )

    def grant(self, **changes: Any) -> Grant:
        fields: dict[str, Any] = {
            "owner": OWNER,
            "workflow_id": WORKFLOW,
            "execution_id": EXECUTION,
            "attempt": 1,
            "binary_sha256": BINARY,
            "request_sha256": request_digest(secrets_body().encode()),
            "refused": (),
            "expires_ms": int(self.clock.now.timestamp() * 1000) + 60_000,
        }
        return Grant(**{**fields, **changes})

    def host_sign(self, prefix: str, message: bytes) -> bytes:
        return sign(self.host, prefix, message)


def new_world() -> World:
    clock = Clock()
    return World(clock, Authority.create(clock=clock))


def body_fields(**changes: Any) -> dict[str, Any]:
    return {
        "workflow_id": WORKFLOW,
        "owner": OWNER,
        "execution_id": EXECUTION,
        "binary_sha256": BINARY,
        "request_sha256": b"\x01" * 32,
        "config_hash": b"\xc0" * 32,
        "challenge_id": b"\x1d" * 16,
        **changes,
    }


def secrets_body(**changes: Any) -> SecretsBody:
    return SecretsBody(**body_fields(**{"secrets": (SecretName("main", "KEY"), SecretName("b", "A")), **changes}))


def capability_body(**changes: Any) -> CapabilityBody:
    own = {"reference_id": "-3", "capability_id": "http@1.0.0", "method_name": "Send", "payload": b"\x01\x02"}
    return CapabilityBody(**body_fields(**{**own, **changes}))


def result_body(**changes: Any) -> ResultBody:
    return ResultBody(**body_fields(**{"result_sha256": b"\x02" * 32, **changes}))


def twin(document: bytes) -> bytes:
    """Return the same statement under the other signature that is as good: (r, n - s) for (r, s)."""
    protected, unprotected, payload, signature = cbor2.loads(document)
    s = _ORDER - int.from_bytes(signature[48:], "big")
    return cbor2.dumps([protected, unprotected, payload, signature[:48] + s.to_bytes(48, "big")])

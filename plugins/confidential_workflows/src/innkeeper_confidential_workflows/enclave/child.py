"""What an execution's calls go through, in the execution's own process: where sealed secrets are opened.

``innkeeper_confidential_workflows.enclave.child:factory`` is what the guests' root process is started with.

Rules of this module:

1. The key is made after the fork, at the first request for secrets, and never leaves: each execution has its own, also
   of those that one zygote has forked.
2. A vault's answer is opened only if the vault has signed it, for this request, with every item in its place. Nothing
   of it is used otherwise. Plaintext goes to the guest's memory and nowhere else.
3. Lines that a guest logs and metrics that it reports go on without their content: only that they were is told. What
   the runtime would say of the guest for a log goes nowhere: it has the guest's numbers in it.
4. A fault in here ends the execution by its type alone: its text might hold what was opened.
5. An execution is confined: it can open no file. So what the library opens or makes at its first use is used once when
   this module is imported, which happens in the root process before anything is forked from it.
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.enclave.names import NOT_A_NAME, name_of
from innkeeper_confidential_workflows.enclave.sealed import SealedAnswers, SealedCall, join_question
from innkeeper_confidential_workflows.protocol.bodies import SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.hashing import request_digest
from innkeeper_confidential_workflows.protocol.releases import (
    OpenedSecret,
    RefusedSecret,
    Release,
    SealedSecret,
    open_release,
    seal_info,
    sign_release,
)
from innkeeper_confidential_workflows.protocol.sealing import new_private_key, public_key_of, seal
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AwaitSecretsResponse,
    GetSecretsRequest,
    Secret,
    SecretError,
    SecretRequest,
    SecretResponse,
    SecretResponses,
)
from innkeeper_wasm.runtime.guest import Host, Refused
from innkeeper_wasm.runtime.wire import BUFFER_TOO_SMALL, Kind

__all__ = ["SealedHost", "factory"]

_I64: Final = struct.Struct("<q")
_MODE_BYTES: Final = 4
"""What a log line begins with."""

_ANY_CAPACITY: Final = (1 << 63) - 1
"""What the monitor is told of the guest's buffer: a sealed answer is larger than what is in it, and this end checks."""


class SealedFaultError(Exception):
    """Raised in the place of an exception whose text nobody may read."""


class SealedHost:
    """The host's end of an execution whose secrets are sealed to it.

    Args:
        host: The end that leads to the monitor.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._key: X25519PrivateKey | None = None
        self._asked: dict[int, list[SecretRequest]] = {}

    def ask(self, kind: int, payload: bytes) -> bytes:
        """Return the answer to a question of the guest's imports.

        Raises:
            Refused: The answer is an error text.
        """
        match kind:
            case Kind.GET_SECRETS:
                return self._get_secrets(payload)
            case Kind.AWAIT_SECRETS:
                return self._await_secrets(payload)
            case Kind.EMIT_METRIC:
                return self._host.ask(kind, b"")
            case _:
                return self._host.ask(kind, payload)

    def tell(self, kind: int, payload: bytes) -> None:
        """Say something that is not answered."""
        if kind != Kind.NOTICE:
            self._host.tell(kind, payload[:_MODE_BYTES] if kind == Kind.LOG else payload)

    def _get_secrets(self, payload: bytes) -> bytes:
        if self._key is None:
            self._key = new_private_key()
        answer = self._host.ask(Kind.GET_SECRETS, join_question(public_key_of(self._key), payload))
        # The monitor has read it, with the same library, and started it under this id.
        request = GetSecretsRequest.FromString(payload)
        self._asked[request.callback_id] = list(request.requests)
        return answer

    def _await_secrets(self, payload: bytes) -> bytes:
        capacity = _I64.unpack_from(payload)[0]
        answers = SealedAnswers.decode(
            self._host.ask(Kind.AWAIT_SECRETS, _I64.pack(_ANY_CAPACITY) + payload[_I64.size :])
        )
        try:
            data = self._opened(answers)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001 - rule 4
            raise SealedFaultError(type(error).__name__) from None
        if len(data) > capacity:
            raise Refused(BUFFER_TOO_SMALL)
        return data

    def _opened(self, answers: SealedAnswers) -> bytes:
        response = AwaitSecretsResponse()
        for call in answers.calls:
            response.responses[call.id].CopyFrom(self._open(call, answers.vault_key))
        return response.SerializeToString(deterministic=True)

    def _open(self, call: SealedCall, vault_key: bytes) -> SecretResponses:
        asked = self._asked.pop(call.id)
        if not call.request:
            return SecretResponses(responses=[_response(item, None, "") for item in asked])
        if self._key is None:
            raise RuntimeError("secrets are answered that were never asked for")
        try:
            body = SecretsBody.decode(call.request)
            opened = open_release(
                call.release,
                call.signature,
                vault_key=vault_key,
                request=call.request,
                nonce=call.nonce,
                private_key=self._key,
            )
        except AttestationError as error:
            raise Refused(f"failed to get secrets for call {call.id}: {error}".encode()) from None
        found = {SecretName(item.namespace, item.key): item for item in opened}
        return SecretResponses(
            responses=[
                _response(item, None if (name := name_of(item)) is None else found[name], body.owner) for item in asked
            ]
        )


def _response(request: SecretRequest, item: OpenedSecret | RefusedSecret | None, owner: str) -> SecretResponse:
    """Return what the guest is told of one secret that it has asked for."""
    match item:
        case OpenedSecret():
            return SecretResponse(secret=Secret(id=item.key, namespace=item.namespace, owner=owner, value=item.value))
        case RefusedSecret():
            return SecretResponse(
                error=SecretError(id=item.key, namespace=item.namespace, owner=owner, error=item.error)
            )
        case None:
            return SecretResponse(
                error=SecretError(id=request.id, namespace=request.namespace, owner=owner, error=NOT_A_NAME)
            )


def factory(host: Host) -> SealedHost:
    """Return what an execution's calls go through; called in each execution, after its fork."""
    return SealedHost(host)


def _warm_up() -> None:
    """Seal, sign, verify and open once, with keys and names that are nobody's."""
    vault, own, name = Ed25519PrivateKey.generate(), new_private_key(), SecretName("n", "k")
    body = SecretsBody(
        workflow_id="0" * 64,
        owner="0" * 40,
        execution_id="0" * 64,
        binary_sha256=bytes(32),
        request_sha256=bytes(32),
        config_hash=bytes(32),
        challenge_id=bytes(16),
        secrets=(name,),
    )
    request, nonce = body.encode(), bytes(32)
    sealed = seal(public_key_of(own), seal_info(body, name, 1, nonce), b"")
    item = SealedSecret(namespace=name.namespace, key=name.key, version=1, sealed=sealed)
    release, signature = sign_release(Release(request_sha256=request_digest(request), items=(item,)), vault)
    vault_key = vault.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    open_release(release, signature, vault_key=vault_key, request=request, nonce=nonce, private_key=own)


_warm_up()

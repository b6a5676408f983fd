"""What a confidential guest's host calls mean, on the monitor's side.

Rules of this module:

1. Ids, their order and the texts of refusals are those of every guest: :mod:`innkeeper_wasm.calls`.
2. Secrets come and go sealed: an execution asks with its public key, and is handed the vault's answer unopened.
3. Lines and metrics arrive without their content, and are counted. A metric is answered as one that is not taken.
"""

from __future__ import annotations

import asyncio

from innkeeper_confidential_workflows.enclave.names import unique_names
from innkeeper_confidential_workflows.enclave.relay import Relay, Released
from innkeeper_confidential_workflows.enclave.sealed import SealedAnswers, SealedCall, split_question
from innkeeper_confidential_workflows.protocol.bodies import MAX_SECRETS
from innkeeper_sdk.errors import LimitExceededError
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AwaitSecretsRequest,
    CapabilityRequest,
    CapabilityResponse,
    GetSecretsRequest,
)
from innkeeper_wasm.calls import SECRETS_REFUSED, START_REFUSED, CommonCalls, parse, take_secrets
from innkeeper_wasm.pending import PendingCalls

__all__ = ["ConfidentialCalls"]

_METRIC_NOT_TAKEN = -1


class _RelayHelper:
    """What the relay answers of the calls that all guests have."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        return await self._relay.capability(request)

    async def node_time(self) -> int:
        return await self._relay.time(don=False)

    async def don_time(self) -> int:
        return await self._relay.time(don=True)


class ConfidentialCalls(CommonCalls):
    """The monitor's side of one execution's calls.

    Args:
        relay: The execution's way to the host.
        pool: The workflow's pool of pending calls.
        vault_key: The vault's key, from the enclave's configuration.

    Attributes:
        dropped_logs: How many lines the guest has logged.
        dropped_metrics: How many metrics it has reported.
    """

    def __init__(self, relay: Relay, pool: asyncio.Semaphore, vault_key: bytes) -> None:
        super().__init__(_RelayHelper(relay), pool)
        self._relay = relay
        self._vault_key = vault_key
        self._secrets: PendingCalls[Released | None] = PendingCalls(pool, SECRETS_REFUSED)
        self.dropped_logs = 0
        self.dropped_metrics = 0

    async def get_secrets(self, data: bytes) -> None:
        """Start a secrets request.

        Args:
            data: The execution's public key, and the guest's serialized GetSecretsRequest.

        Raises:
            CallRefused: It cannot be started.
        """
        public_key, asked = split_question(data)
        request = parse(GetSecretsRequest, asked, prefix=START_REFUSED)
        await self._secrets.start(request.callback_id, self._release(request, public_key))

    async def await_secrets(self, data: bytes) -> bytes:
        """Return the vault's answers to every request asked for, unopened, once they are there.

        Raises:
            CallRefused: The request is no AwaitSecretsRequest, an id is unknown or already awaited, or one failed.
        """
        request = parse(AwaitSecretsRequest, data)
        calls = []
        for call_id in request.ids:
            released = await take_secrets(self._secrets, call_id)
            calls.append(
                SealedCall(
                    id=call_id,
                    request=released.request if released else b"",
                    nonce=released.nonce if released else b"",
                    release=released.release if released else b"",
                    signature=released.signature if released else b"",
                )
            )
        return SealedAnswers(vault_key=self._vault_key, calls=tuple(calls)).encode()

    async def emit_metric(self, data: bytes) -> int:
        """Count a metric, and say that it is not taken."""
        del data
        self.dropped_metrics += 1
        return _METRIC_NOT_TAKEN

    def log(self, mode: int, data: bytes) -> None:
        """Count a line."""
        del mode, data
        self.dropped_logs += 1

    async def close(self) -> None:
        """Cancel what was not answered, and wait for it to be gone."""
        await super().close()
        await self._secrets.close()

    async def _release(self, request: GetSecretsRequest, public_key: bytes) -> Released | None:
        """Ask for the secrets that a guest names; None if it names none that can be one."""
        names = unique_names(request.requests)
        if len(names) > MAX_SECRETS:
            raise LimitExceededError(
                "too many secrets in one request", expected=f"at most {MAX_SECRETS}", actual=str(len(names))
            )
        return await self._relay.secrets(names, public_key) if names else None

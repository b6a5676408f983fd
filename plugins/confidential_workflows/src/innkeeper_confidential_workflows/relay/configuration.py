"""The enclave's configuration: what this host tells an enclave at its start, and expects of it ever after.

Rules of this module:

1. It is made of the host's key and of the vault's, which the vault says itself. Without a vault there is none.
2. What was handed out last is what counts: an enclave that was started with anything else is refused.
"""

from __future__ import annotations

import asyncio
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import VaultIdentity
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.relay.messages import refused, unpack
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    ErrorCode,
    HostRegistry,
    RequestMetadata,
)
from innkeeper_sdk.errors import NotFoundError
from innkeeper_sdk.hooks import HostKey

__all__ = ["VAULT", "Configuration"]

VAULT: Final = "vault@1.0.0"

# Of a vault that starts beside the enclave: shorter than an enclave waits, so that it is told why there is none.
_PATIENCE: Final = 8.0


class Configuration:
    """Makes the configuration, and knows the one in force.

    Args:
        registry: The way to the vault.
        host_key: The host's key.
        patience: How long the vault is waited for, in seconds.
    """

    def __init__(self, registry: HostRegistry, host_key: HostKey, *, patience: float = _PATIENCE) -> None:
        self._registry = registry
        self._host_key = host_key
        self._patience = patience
        self._current: EnclaveConfig | None = None

    @property
    def current(self) -> EnclaveConfig:
        """Return the configuration in force.

        Raises:
            AttestationError: ``config_mismatch``: none was handed out.
        """
        if self._current is None:
            raise AttestationError(Code.CONFIG_MISMATCH, "no enclave was given a configuration by this host")
        return self._current

    async def make(self) -> EnclaveConfig:
        """Make the configuration anew, for an enclave that starts.

        Raises:
            CapabilityError: The vault is missing or not granted, is not ready, or does not say who it is.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._registry.wait_ready(VAULT)
                response = await self._registry.execute(_identity())
        except TimeoutError:
            raise CapabilityError(
                f"{VAULT} is not ready, and without it no enclave can be configured",
                error_code=ErrorCode.Unavailable,
            ) from None
        except NotFoundError:
            raise CapabilityError(
                f"there is no {VAULT} for confidential-workflows; enable the provider vault, and grant {VAULT} to "
                "confidential-workflows, in plugins.yaml",
                error_code=ErrorCode.FailedPrecondition,
            ) from None
        try:
            self._current = EnclaveConfig(
                host_key=self._host_key.public_key, vault_key=unpack(VaultIdentity, response.payload).public_key
            )
        except AttestationError as error:
            raise refused(error) from error
        return self._current


def _identity() -> CapabilityRequest:
    payload = AnyMessage()
    payload.Pack(Empty())
    return CapabilityRequest(
        metadata=RequestMetadata(workflow_id="", workflow_owner=""),
        capability_id=VAULT,
        method="Identity",
        payload=payload,
    )

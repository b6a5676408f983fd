"""The capability ``confidential-workflows@1.0.0-alpha``: hands requests to the enclave of this process."""

from __future__ import annotations

import time
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from innkeeper_confidential_workflows.process.answers import RELAY
from innkeeper_confidential_workflows.process.enclave import Enclave
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
    ProvidedTeesResponse,
)
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import EnclaveConfiguration
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    Registry,
    RequestMetadata,
)
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import TEE_TYPE_AWS_NITRO, TeeTypeAndRegions

__all__ = ["CAPABILITY_ID", "ConfidentialWorkflows"]

CAPABILITY_ID: Final = "confidential-workflows@1.0.0-alpha"

_TYPE_PREFIX: Final = "type.googleapis.com/"
_LONGEST_SECONDS: Final = 300.0
"""For a caller without a deadline: longer than this no enclave runs anything."""
_CONFIGURATION_SECONDS: Final = 10.0


class ConfidentialWorkflows(Capability):
    """Runs confidential workflows in the enclave of this process.

    Args:
        enclave: The enclave, which may be booted already.
        registry: The registry of this Initialise.
        region: The region that this host's enclaves are said to be in.
    """

    def __init__(self, enclave: Enclave, registry: Registry, region: str) -> None:
        self._enclave = enclave
        self._registry = registry
        self._region = region

    @property
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself."""
        return CapabilityInfo(
            id=CAPABILITY_ID,
            type=CapabilityType.COMBINED,
            description="Runs the binaries of confidential workflows in an enclave",
        )

    async def start(self) -> None:
        """Boot the enclave with the configuration that the relay gives.

        Raises:
            CapabilityError: The relay does not give it.
            LaunchError: The enclave does not boot.
        """
        payload = AnyMessage()
        payload.Pack(Empty())
        response = await self._registry.execute(
            CapabilityRequest(
                metadata=RequestMetadata(workflow_id="", workflow_owner=""),
                capability_id=RELAY,
                method="Configuration",
                payload=payload,
                deadline=time.monotonic() + _CONFIGURATION_SECONDS,
            )
        )
        configuration = EnclaveConfiguration()
        if not response.payload.Unpack(configuration):
            raise CapabilityError("the relay gives no configuration for the enclave", error_code=ErrorCode.Internal)
        await self._enclave.boot(configuration.body)
        self._enclave.registry = self._registry

    async def close(self) -> None:
        """Leave the enclave without a host; what it asks from now on is refused."""
        if self._enclave.registry is self._registry:
            self._enclave.registry = None

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Raises:
            CapabilityError: The request was refused, or the execution failed.
        """
        match request.method:
            case "Execute":
                return await self._execute(request)
            case "ProvidedTees":
                offer = TeeTypeAndRegions(type=TEE_TYPE_AWS_NITRO, regions=[self._region])
                return _response(ProvidedTeesResponse(tee=[offer]))
            case _:
                return await super().execute(request)

    async def _execute(self, request: CapabilityRequest) -> CapabilityResponse:
        if not request.payload.Is(ConfidentialWorkflowRequest.DESCRIPTOR):
            raise CapabilityError(
                f"the payload is no {ConfidentialWorkflowRequest.DESCRIPTOR.full_name}",
                error_code=ErrorCode.InvalidArgument,
            )
        seconds = _LONGEST_SECONDS if request.deadline is None else request.deadline - time.monotonic()
        response = await self._enclave.execute(request.payload.value, seconds)
        name = ConfidentialWorkflowResponse.DESCRIPTOR.full_name
        return CapabilityResponse(AnyMessage(type_url=_TYPE_PREFIX + name, value=response))


def _response(message: Message) -> CapabilityResponse:
    payload = AnyMessage()
    payload.Pack(message)
    return CapabilityResponse(payload)

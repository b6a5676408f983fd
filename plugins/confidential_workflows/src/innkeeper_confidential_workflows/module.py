"""The module type ``confidential``: a workflow's binary runs in an enclave, and nowhere else.

Rules of this module:

1. Nothing of a binary is kept but its locator and its digest: the enclave fetches the bytes and compares them itself.
2. Whether the workflow may run in an enclave is asked at every execution, subscribing included. Missing, unknown and
   not ready mean no, or not yet; they never mean another way.
3. An execution is live from before its request is sent until its answer is there. Its result counts only if the enclave
   has attested it meanwhile, byte for byte, as the answer to this request.
4. A request is sent once. If it is lost before the enclave has asked for anything, the module is not available, and the
   engine may try another attempt; after that the execution has failed.
5. Errors of the workflow's own stay its own.

The order is the reference's (chainlink, ``services/workflows/v2/confidential_module.go``).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from innkeeper_confidential_workflows.exchange import (
    CAPABILITY,
    WHAT,
    ConfidentialFailedError,
    build_request,
    metadata,
    packed,
    read_response,
    unpack,
)
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ProvidedTeesResponse,
)
from innkeeper_confidential_workflows.relay.executions import LiveExecution, LiveExecutions
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    HostRegistry,
    Origin,
    RequestMetadata,
)
from innkeeper_sdk.errors import (
    DeadlineExceededError,
    InnkeeperError,
    NotFoundError,
    UnavailableError,
    VerificationError,
    WorkflowError,
)
from innkeeper_sdk.hooks import Limits
from innkeeper_sdk.module import Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, TeeTypeAndRegions

__all__ = [
    "GATE",
    "ConfidentialDisabledError",
    "ConfidentialModule",
    "ConfidentialModuleType",
    "ResultUnverifiedError",
]

GATE: Final = "PerWorkflow.ConfidentialWorkflows.Enabled"

# Of a question that no guest has to be run for.
_OFFERS_SECONDS: Final = 10.0
# What an enclave answers that could not even begin: another time it may.
_NOT_NOW: Final = (ErrorCode.Unavailable, ErrorCode.ResourceExhausted)


class ConfidentialDisabledError(WorkflowError):
    """Raised when the settings do not let a workflow run in an enclave."""

    code = "confidential-disabled"


class ResultUnverifiedError(VerificationError):
    """Raised when a result is not the one that the enclave has attested."""

    code = "confidential-result-unverified"


class ConfidentialModule(Module):
    """One binary that runs in enclaves.

    Args:
        spec: The workflow.
        binary_sha256: Of its binary as it is stored.
        registry: The way to the capability.
        limits: The limits.
        live: Where the relay looks executions up.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        binary_sha256: bytes,
        *,
        registry: HostRegistry,
        limits: Limits,
        live: LiveExecutions,
    ) -> None:
        self._spec = spec
        self._binary_sha256 = binary_sha256
        self._registry = registry
        self._limits = limits
        self._live = live
        self._closed = False
        self._calls: set[asyncio.Task[CapabilityResponse]] = set()

    async def start(self) -> None:
        """Make ready to execute; idempotent, also after a close."""
        self._closed = False

    async def close(self) -> None:
        """End what runs; idempotent."""
        self._closed = True
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        """Execute one request in an enclave.

        Raises:
            ConfidentialDisabledError: The settings do not let the workflow.
            UnavailableError: The capability is not ready, or was lost before anything was asked for.
            DeadlineExceededError: It was not over by the deadline.
            WorkflowError: The workflow failed, or the module is closed.
            ConflictError: The execution runs already.
            ConfidentialFailedError: The capability failed.
            ResultUnverifiedError: The result is not the one that was attested.
        """
        if self._closed:
            raise WorkflowError(f"workflow {self._spec.name}: the module is closed")
        check_gate(self._limits, self._spec)
        payload = packed(build_request(self._spec, self._binary_sha256, request, run))
        live = LiveExecution(
            workflow_id=self._spec.workflow_id,
            owner=self._spec.owner,
            execution_id=run.execution_id,
            attempt=run.attempt,
            binary_sha256=self._binary_sha256,
            request_sha256=hashlib.sha256(payload.value).digest(),
            deadline=run.deadline,
            helper=run.helper,
        )
        await self._wait_ready(run)
        if self._closed:
            raise WorkflowError(f"workflow {self._spec.name}: the module was closed while it waited")
        async with self._live.registered(live):
            try:
                response = await self._call(payload, run)
            except NotFoundError as error:
                raise ConfidentialFailedError(f"failed to get {WHAT}: {error}") from error
            except CapabilityError as error:
                raise _failure(error, live) from error
            result, serialized = read_response(response)
            if not live.attested(hashlib.sha256(serialized).digest()):
                raise ResultUnverifiedError(
                    f"the result of {live.what} of workflow {self._spec.name} is not one that the enclave has attested",
                    hint="nothing of it was used; see innkeeper plugins logs confidential-workflows",
                )
            return result

    async def _wait_ready(self, run: Run) -> None:
        if not run.execution_id and not self._registry.ready(CAPABILITY):
            # Whoever subscribes is deferred, and comes again.
            raise UnavailableError(f"{WHAT} is not ready", hint="see innkeeper plugins list")
        try:
            async with asyncio.timeout(run.deadline - time.monotonic()):
                await self._registry.wait_ready(CAPABILITY)
        except NotFoundError as error:
            raise ConfidentialFailedError(f"failed to get {WHAT}: {error}") from error
        except TimeoutError:
            raise DeadlineExceededError(f"{WHAT} was not ready before the execution's deadline") from None

    async def _call(self, payload: AnyMessage, run: Run) -> CapabilityResponse:
        call = CapabilityRequest(
            metadata=metadata(self._spec, run.execution_id),
            capability_id=CAPABILITY,
            method="Execute",
            payload=payload,
            deadline=run.deadline,
        )
        task = asyncio.create_task(self._registry.execute(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
        if task.cancelled():
            raise WorkflowError(f"workflow {self._spec.name}: the module was closed during the execution")
        return task.result()


class ConfidentialModuleType(ModuleType):
    """The module type ``confidential``.

    Args:
        registry: The way to the capability.
        limits: The limits.
        live: Where the relay looks executions up.
        logger: Where the start warns of the simulation.
    """

    name = "confidential"

    def __init__(self, *, registry: HostRegistry, limits: Limits, live: LiveExecutions, logger: logging.Logger) -> None:
        self._registry = registry
        self._limits = limits
        self._live = live
        self._logger = logger

    async def start(self) -> None:
        """Say what the backend is."""
        self._logger.warning(
            "INSECURE SIMULATION, NO TEE: whoever controls this machine can read what confidential workflows compute; "
            "the first measurement that a fresh data directory sees is trusted"
        )

    async def load(self, spec: WorkflowSpec, binary: bytes) -> ConfidentialModule:
        """Take note of a binary; see :meth:`innkeeper_sdk.module.ModuleType.load`.

        Raises:
            ConfidentialDisabledError: The settings do not let the workflow run in an enclave.
            UnavailableError: The capability is not ready.
        """
        check_gate(self._limits, spec)
        if not self._registry.ready(CAPABILITY):
            raise UnavailableError(f"{WHAT} is not ready", hint="see innkeeper plugins list for its provider's parts")
        return ConfidentialModule(
            spec,
            hashlib.sha256(binary).digest(),
            registry=self._registry,
            limits=self._limits,
            live=self._live,
        )

    async def offers(self) -> Sequence[TeeTypeAndRegions]:
        """Ask the capability, each time anew, which TEEs it has.

        Raises:
            UnavailableError: It cannot say, whatever the reason.
        """
        call = CapabilityRequest(
            metadata=RequestMetadata(workflow_id="", workflow_owner=""),
            capability_id=CAPABILITY,
            method="ProvidedTees",
            payload=packed(Empty()),
            deadline=time.monotonic() + _OFFERS_SECONDS,
        )
        try:
            provided = ProvidedTeesResponse()
            unpack(await self._registry.execute(call), provided)
        except InnkeeperError as error:
            raise UnavailableError(f"{WHAT} does not say which TEEs it has: {error}") from error
        return list(provided.tee)


def check_gate(limits: Limits, spec: WorkflowSpec) -> None:
    """Refuse a workflow that may not run in an enclave.

    Raises:
        ConfidentialDisabledError: The limit is not on for it.
    """
    if limits.get(GATE, owner=spec.owner, workflow_id=spec.workflow_id) is not True:
        raise ConfidentialDisabledError(
            f"{WHAT} is disabled by settings: {GATE} is off for workflow {spec.name}",
            hint="switch it on in innkeeper.yaml: for the workflow, its owner, or everyone",
        )


def _failure(error: CapabilityError, live: LiveExecution) -> InnkeeperError:
    """Return what a failed call means for the execution."""
    text = f"{WHAT} execution failed: {error}"
    if error.error_code is ErrorCode.DeadlineExceeded:
        return DeadlineExceededError(text)
    if error.origin is Origin.USER:
        return WorkflowError(text)
    if error.error_code in _NOT_NOW and not live.touched:
        return UnavailableError(text)
    return ConfidentialFailedError(text)

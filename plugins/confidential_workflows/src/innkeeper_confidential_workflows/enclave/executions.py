"""Running one request: from its bytes to an attested answer.

The order is: read the request → take a slot → reserve the execution → fetch, hash and compile its binary → run the
guest in a process of its own → have the result attested → keep it, and answer.

Rules of this module:

1. Whatever goes wrong is a :class:`CapabilityError` without a byte of a secret; what no rule foresees says no more than
   that it happened, and the enclave's own log says what.
2. Slots are not waited for: the host has queues, an enclave has none.
3. Nothing that a guest says, or chooses, is in the enclave's log, which is the host's to read.
4. What the host has not said, though a guest has asked for it, ends the execution, whatever that guest comes to.
5. A guest's random numbers outside DON mode come from a key that this enclave made at its start: the host cannot
   foretell them, and a repeated attempt of an execution gets the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import secrets
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from innkeeper_confidential_workflows.enclave.binaries import Binaries
from innkeeper_confidential_workflows.enclave.calls import ConfidentialCalls
from innkeeper_confidential_workflows.enclave.link import HostLink
from innkeeper_confidential_workflows.enclave.relay import Attester, Relay
from innkeeper_confidential_workflows.enclave.requests import WorkRequest, read_request
from innkeeper_confidential_workflows.enclave.reservations import Key, Reservations
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowResponse,
)
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.errors import InnkeeperError
from innkeeper_wasm.calls import told
from innkeeper_wasm.driver import CompiledModule, EndingKind, GuestLimits, Outcome, Runtime, don_seed

__all__ = ["MAX_SECONDS", "EnclaveParts", "Executions", "Tally", "default_slots"]

MAX_SECONDS: Final = 300.0
"""Longest execution, whatever the host asks for; the reference's enclave has the same."""

_MESSAGE_BYTES: Final = 10 * 1024 * 1024
"""Largest message of a guest, its result too; the reference's enclave answers as much."""
_CALLS_AT_ONCE: Final = 30
"""Pending calls of one execution; the host's own limits, which may be lower, count as well."""
_LOG_LINE_BYTES: Final = 1024 * 1024
_LOG_EVENTS: Final = 10_000
# Of the reference's enclave: what it leaves for itself, and what it reckons for an execution.
_OWN_BYTES: Final = 1024 * 1024 * 1024
_SLOT_BYTES: Final = 128 * 1024 * 1024
_MAX_SLOTS: Final = 64

_GUEST_LIMITS: Final = GuestLimits(
    log_line_bytes=_LOG_LINE_BYTES,
    log_events_don=_LOG_EVENTS,
    log_events_node=_LOG_EVENTS,
    metrics=True,
    message_bytes=_MESSAGE_BYTES,
)


@define
class Tally:
    """What an execution's guest said that nobody is told.

    Attributes:
        logs: Lines.
        metrics: Metrics.
    """

    logs: int = 0
    metrics: int = 0


@frozen(kw_only=True)
class EnclaveParts:
    """What the executions of one enclave share.

    Attributes:
        link: The questions to the parent.
        attester: What makes documents.
        config: The enclave's configuration.
        runtime: What compiles and runs guests.
    """

    link: HostLink
    attester: Attester
    config: EnclaveConfig
    runtime: Runtime = field(repr=False)


class Executions:
    """The executions of one enclave.

    Args:
        parts: What they share.
        reservations: Which run, and which have.
        slots: How many may run at once.
        logger: Where faults go.
    """

    def __init__(self, parts: EnclaveParts, *, reservations: Reservations, slots: int, logger: logging.Logger) -> None:
        self._parts = parts
        self._binaries = Binaries(parts.link, parts.runtime)
        self._reservations = reservations
        self._slots = slots
        self._seed_key = secrets.token_bytes(32)
        self._logger = logger

    async def execute(self, data: bytes, seconds: float, tally: Tally) -> bytes:
        """Run a request.

        Args:
            data: A serialized ConfidentialWorkflowRequest, as it was received.
            seconds: How long it may take; at most :data:`MAX_SECONDS` count.
            tally: What is counted of it, also if it fails.

        Returns:
            A serialized ConfidentialWorkflowResponse.

        Raises:
            CapabilityError: It was refused, or failed.
        """
        deadline = asyncio.get_running_loop().time() + min(seconds, MAX_SECONDS)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._execute(read_request(data), deadline, tally)
        except CapabilityError:
            raise
        except TimeoutError:
            raise CapabilityError(
                "the execution was not over by its deadline", error_code=ErrorCode.DeadlineExceeded
            ) from None
        except InnkeeperError as error:
            # Without the provider that its own class names: here it is another one.
            raise CapabilityError(error.message, error_code=ErrorCode.Unavailable) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, the enclave goes on
            # Not its text, which may quote what a guest has said.
            self._logger.error("an execution failed in a way that no rule foresees: %s", _where(error))  # noqa: TRY400 - as said
            raise CapabilityError("internal: the enclave failed", error_code=ErrorCode.Internal) from None

    async def _execute(self, work: WorkRequest, deadline: float, tally: Tally) -> bytes:
        relay = Relay(self._parts.link, self._parts.attester, work.identity, self._parts.config)
        with self._slot():
            if work.phase == "subscribe":
                return await self._run(work, relay, deadline, tally)
            key = Key(work.identity.workflow_id, work.identity.execution_id, work.phase)
            kept = self._reservations.reserve(key, work.identity.request_sha256)
            if kept is not None:
                # The host that asks again may have lost what it was told, and believes no answer that is not attested.
                await self._attest(relay, kept)
                return kept
            try:
                response = await self._run(work, relay, deadline, tally)
            except BaseException:
                self._reservations.failed(key)
                raise
            self._reservations.executed(key, response)
            return response

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots:
            raise CapabilityError(
                "rate_limited: as many executions run as this enclave has room for",
                error_code=ErrorCode.ResourceExhausted,
            )
        self._slots -= 1
        try:
            yield
        finally:
            self._slots += 1

    async def _run(self, work: WorkRequest, relay: Relay, deadline: float, tally: Tally) -> bytes:
        async with self._binaries.use(work.locator, work.identity.binary_sha256) as module:
            response = await self._guest(module, work, relay, deadline, tally)
        await self._attest(relay, response)
        return response

    async def _guest(
        self, module: CompiledModule, work: WorkRequest, relay: Relay, deadline: float, tally: Tally
    ) -> bytes:
        calls = ConfidentialCalls(relay, asyncio.Semaphore(_CALLS_AT_ONCE), self._parts.config.vault_key)
        try:
            outcome = await self._parts.runtime.execute(
                module,
                request=told(work.request),
                callbacks=calls,
                don_seed=don_seed(work.identity.execution_id),
                node_seed=self._node_seed(work),
                deadline=deadline,
                limits=_GUEST_LIMITS,
                label=f"workflow {work.identity.workflow_id}",
                silent=True,
            )
        finally:
            tally.logs, tally.metrics = calls.dropped_logs, calls.dropped_metrics
            await calls.close()
        if relay.fault is not None:
            raise relay.fault
        return _response(outcome, calls)

    @staticmethod
    async def _attest(relay: Relay, response: bytes) -> None:
        result = ConfidentialWorkflowResponse.FromString(response).execution_result
        await relay.result(hashlib.sha256(result).digest())

    def _node_seed(self, work: WorkRequest) -> int:
        identity = work.identity
        name = f"{identity.workflow_id}/{identity.execution_id}/{work.phase}"
        digest = hmac.digest(self._seed_key, name.encode(), "sha256")
        return int.from_bytes(digest[:8], "little", signed=True)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {' < '.join(f'{Path(f.filename).name}:{f.lineno}' for f in reversed(frames))}"


def _response(outcome: Outcome, calls: ConfidentialCalls) -> bytes:
    if outcome.error is not None:
        code = ErrorCode.Unknown
        if outcome.killed_by_deadline:
            code = ErrorCode.DeadlineExceeded
        elif outcome.kind is EndingKind.LOST:
            code = ErrorCode.Unavailable
        origin = Origin.SYSTEM if outcome.kind is EndingKind.LOST else Origin.USER
        raise CapabilityError(outcome.error, error_code=code, origin=origin)
    if calls.result is None:
        raise CapabilityError(
            "the guest ended well but its result is missing", error_code=ErrorCode.Unknown, origin=Origin.USER
        )
    response = ConfidentialWorkflowResponse(
        execution_result=calls.result.SerializeToString(deterministic=True), sdk_execution_result=calls.result
    )
    return response.SerializeToString(deterministic=True)


def default_slots() -> int:
    """Return how many executions this machine's memory has room for: 1 to 64."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(_MAX_SLOTS, (total - _OWN_BYTES) // _SLOT_BYTES))

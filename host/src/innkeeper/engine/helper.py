"""The execution helper: all that one attempt may do outside its guest.

Rules of this module:

1. Every call goes to the registry as the workflow, with metadata that the host fills from what it knows; what the
   guest says of itself is not asked. What is authorised, counted and journalled is the *resolved* capability.
2. Limits come before effects: calls per capability and method (methods that share a limit share its count), calls
   under way in all of the workflow's executions, the time of one call, requests for secrets.
3. What the journal knows is answered from it, and counts against the limits as it did the first time.
4. After ``close`` nothing goes out any more: calls under way are cancelled, new ones are refused.
5. A secret's value is in no log and no journal.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from typing import Any, Final, Self, TypeVar

from attrs import define, field, frozen

from innkeeper.capabilities.callers import WorkflowCaller
from innkeeper.engine.clock import Clock, DonTime
from innkeeper.engine.journal import Answer, CallId, Journal
from innkeeper.engine.limits import EngineLimits
from innkeeper.engine.logs import LogBuffer
from innkeeper.engine.metrics import UserMetrics
from innkeeper.engine.ports import CapabilityRegistry, HostLimits, ResolvedCapability, SecretRefusal, SecretSource
from innkeeper.store.journal import EntryKind, Phase
from innkeeper.workflows.identity import idempotency_key, metadata_name
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin, RequestMetadata
from innkeeper_sdk.capability import CapabilityRequest as CallRequest
from innkeeper_sdk.errors import InnkeeperError, WorkflowError
from innkeeper_sdk.module import ExecutionHelper, UserMetric, WorkflowSpec
from innkeeper_sdk.namespaces import normalise
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    GetSecretsRequest,
    Secret,
    SecretError,
    SecretResponse,
)

__all__ = ["AttemptHelper", "Services", "metadata", "pre_hook_helper"]

T = TypeVar("T")

# The reference allows this many calls of a method for which nothing declares a limit.
DEFAULT_CALLS: Final = 5


def metadata(spec: WorkflowSpec, *, reference_id: str, execution_id: str = "") -> RequestMetadata:
    """Return what a capability is told of the workflow that asks.

    Args:
        spec: The workflow.
        reference_id: The decimal callback id of a call, ``trigger_<i>`` of a registration.
        execution_id: The execution; empty for a registration.
    """
    return RequestMetadata(
        workflow_id=spec.workflow_id,
        workflow_owner=spec.owner,
        workflow_execution_id=execution_id,
        workflow_name=metadata_name(spec.name),
        decoded_workflow_name=spec.name,
        workflow_tag=spec.tag,
        reference_id=reference_id,
    )


@frozen
class Services:
    """What all executions of one workflow share.

    Attributes:
        spec: The workflow.
        registry: The way to capabilities.
        secrets: The way to secrets.
        limits: Every declared limit, for those that a capability's calls count against.
        own: The workflow's own limits.
        clock: The time.
        metrics: Where user metrics go.
        calls: Places for capability calls.
        secret_calls: Places for requests for secrets.
    """

    spec: WorkflowSpec
    registry: CapabilityRegistry
    secrets: SecretSource
    limits: HostLimits
    own: EngineLimits
    clock: Clock
    metrics: UserMetrics
    calls: asyncio.Semaphore
    secret_calls: asyncio.Semaphore


@define
class _Shared:
    """What the helpers of one attempt have together."""

    counts: Counter[tuple[str, str]] = field(factory=Counter)
    secret_requests: int = 0
    running: set[asyncio.Task[Any]] = field(factory=set)
    closed: bool = False


class AttemptHelper:
    """The callbacks of one attempt.

    Args:
        services: What all executions of the workflow share.
        execution_id: 64 hexadecimal digits.
        journal: The attempt's journal.
        logs: The attempt's log.
        deadline: When the attempt is over, in seconds of the monotonic clock.
    """

    def __init__(
        self, services: Services, *, execution_id: str, journal: Journal, logs: LogBuffer, deadline: float
    ) -> None:
        self._services = services
        self._spec = services.spec
        self._execution_id = execution_id
        self._caller = WorkflowCaller(self._spec.owner, self._spec.workflow_id, execution_id)
        self._journal = journal
        journal.limit(services.own.journal_entries)
        self._logs = logs
        self._deadline = deadline
        self._don = DonTime(services.clock)
        self._phase = Phase.HANDLER
        self._shared = _Shared()

    @property
    def execution_id(self) -> str:
        """Return the execution's id."""
        return self._execution_id

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability on behalf of the workflow.

        Raises:
            CapabilityError: The call failed, or a limit was passed.
            InnkeeperError: The call was refused.
        """
        return await self._run(self._call(request))

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        """Return one answer per requested secret, in their order.

        Raises:
            LimitExceededError: There were too many requests.
        """
        return await self._run(self._get_secrets(request))

    @asynccontextmanager
    async def reserve_secrets(self, request: GetSecretsRequest) -> AsyncIterator[Sequence[SecretError | None]]:
        """Admit a request for secrets that the module fetches by itself; see the SDK's contract.

        Raises:
            LimitExceededError: There were too many requests.
        """
        await self._run(self._admit_secrets(request))
        async with self._services.secret_calls:
            if self._shared.closed:
                raise WorkflowError("the execution is over")
            yield [None] * len(request.requests)

    async def node_time(self) -> int:
        """Return this node's time, in nanoseconds since the epoch."""
        return await self._number(EntryKind.NODE_TIME, self._services.clock.now, int)

    async def don_time(self) -> int:
        """Return the DON's time for the next read of this execution, in nanoseconds since the epoch."""
        return await self._number(EntryKind.DON_TIME, self._don.read, self._don.replay)

    def emit_log(self, message: str) -> None:
        """Record one line of the workflow's log."""
        if not self._shared.closed:
            self._logs.emit(message)

    def emit_metric(self, metric: UserMetric) -> None:
        """Record one user metric.

        Raises:
            WorkflowError: It was refused.
        """
        self._services.metrics.emit(metric)

    def pre_hook(self) -> Self:
        """Return the helper of the attempt's pre-hook: the same, but for the names of its calls."""
        helper = copy(self)
        helper._phase = Phase.PRE_HOOK
        return helper

    async def close(self) -> None:
        """Refuse what comes, and cancel what is under way; idempotent."""
        self._shared.closed = True
        running = list(self._shared.running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _number(self, kind: EntryKind, read: Callable[[], int], replay: Callable[[int], int]) -> int:
        if not self._journal.crowded:
            return self._journal.number(kind, read, replay)

        async def later() -> int:
            await self._journal.relieve()
            return self._journal.number(kind, read, replay)

        return await self._run(later())

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._shared.closed:
            work.close()
            raise WorkflowError("the execution is over")
        task = asyncio.create_task(self._told(work))
        self._shared.running.add(task)
        task.add_done_callback(self._shared.running.discard)
        try:
            return await task
        finally:
            task.cancel()

    async def _told(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except Exception:
            if self._journal.fault.done():
                # The attempt is over, and the guest must not learn why: it could go on. Whoever runs the attempt
                # watches the fault, and cancels this.
                await asyncio.get_running_loop().create_future()
            raise

    async def _call(self, request: CapabilityRequest) -> CapabilityResponse:
        call_id = CallId(request.callback_id, self._phase)
        digest = _digest(request.id, request.method, request.payload.type_url, request.payload.value)
        await self._journal.relieve()
        answer = self._journal.find(call_id, digest)
        if answer is None:
            answer = await self._make(request, call_id, digest)
            self._journal.answered(call_id, digest, answer)
        else:
            self._count_replayed(request)
        return CapabilityResponse(payload=answer.unwrap())

    async def _make(self, request: CapabilityRequest, call_id: CallId, digest: bytes) -> Answer:
        services = self._services
        try:
            resolved = services.registry.resolve(self._caller, request.id)
            self._count(resolved, request.method)
        except InnkeeperError as error:
            return Answer(error=error)
        method = resolved.info.methods.get(request.method)
        async with services.calls:
            await self._journal.started(call_id, digest, idempotent=method is not None and method.idempotent)
            now = services.clock.monotonic()
            call = CallRequest(
                metadata=metadata(self._spec, reference_id=str(request.callback_id), execution_id=self._execution_id),
                capability_id=resolved.info.id,
                method=request.method,
                payload=request.payload,
                deadline=min(self._deadline, now + services.own.capability_call_seconds),
                idempotency_key=idempotency_key(self._spec.workflow_id, self._execution_id, str(call_id)),
            )
            try:
                return Answer(payload=(await services.registry.call(self._caller, call)).payload)
            except InnkeeperError as error:
                return Answer(error=error)

    def _count_replayed(self, request: CapabilityRequest) -> None:
        # What was answered stays the answer, whatever the registry and the limits say today.
        with suppress(InnkeeperError):
            self._count(self._services.registry.resolve(self._caller, request.id), request.method)

    def _count(self, resolved: ResolvedCapability, method: str) -> None:
        declared = resolved.call_limits.get(method)
        name = resolved.info.id.partition("@")[0]
        key = ("", declared) if declared is not None else (name, method)
        allowed = (
            DEFAULT_CALLS
            if declared is None
            else int(self._services.limits.get(declared, owner=self._spec.owner, workflow_id=self._spec.workflow_id))
        )
        self._shared.counts[key] += 1
        if self._shared.counts[key] > allowed:
            raise CapabilityError(
                f"capability call limit exceeded for {name}.{method:.128}",
                error_code=ErrorCode.LimitExceeded,
                origin=Origin.USER,
            )

    async def _get_secrets(self, request: GetSecretsRequest) -> list[SecretResponse]:
        asked = await self._admit_secrets(request)
        async with self._services.secret_calls:
            return [await self._secret(name, namespace) for name, namespace in asked]

    async def _admit_secrets(self, request: GetSecretsRequest) -> list[tuple[str, str]]:
        asked = [(item.id, normalise(item.namespace)) for item in request.requests]
        call_id = CallId(request.callback_id, self._phase)
        await self._journal.relieve()
        self._journal.secrets(call_id, _digest(*(part for pair in asked for part in pair)))
        self._shared.secret_requests += 1
        self._services.limits.check(
            "PerWorkflow.Secrets.CallLimit",
            self._shared.secret_requests,
            owner=self._spec.owner,
            workflow_id=self._spec.workflow_id,
        )
        return asked

    async def _secret(self, name: str, namespace: str) -> SecretResponse:
        owner = self._spec.owner
        found = await self._services.secrets.get(owner, namespace, name)
        if isinstance(found, SecretRefusal):
            return SecretResponse(error=SecretError(id=name, namespace=namespace, owner=owner, error=found.reason))
        return SecretResponse(secret=Secret(id=name, namespace=namespace, owner=owner, value=found))


def pre_hook_helper(helper: ExecutionHelper) -> ExecutionHelper:
    """Return the helper of an execution's pre-hook, which numbers its calls anew.

    Args:
        helper: The execution's.
    """
    return helper.pre_hook() if isinstance(helper, AttemptHelper) else helper


def _digest(*parts: str | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.digest()

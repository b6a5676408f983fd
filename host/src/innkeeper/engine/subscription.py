"""Subscribing: a workflow's binary is asked for its triggers.

Rules of this module:

1. The binary is asked before anything of it is registered, so it may ask nothing back: no capability, no secret, no
   metric. It may log, and it may read the time.
2. The answer is a list of triggers, or it is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from innkeeper.capabilities.faults import class_name, contain
from innkeeper.engine.clock import Clock, DonTime
from innkeeper.engine.limits import EngineLimits
from innkeeper.engine.logs import LogBuffer
from innkeeper.engine.ports import ChosenModule
from innkeeper_sdk.errors import DeadlineExceededError, ProviderError, WorkflowError
from innkeeper_sdk.module import Run, UserMetric
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    ExecuteRequest,
    GetSecretsRequest,
    SecretError,
    SecretResponse,
    TriggerSubscriptionRequest,
)

__all__ = ["SubscribeHelper", "subscribe"]


class SubscribeHelper:
    """The callbacks while subscribing: nearly none.

    Args:
        logs: Where lines go.
        clock: The time.
    """

    def __init__(self, logs: LogBuffer, clock: Clock) -> None:
        self._logs = logs
        self._clock = clock
        self._don = DonTime(clock)

    @property
    def execution_id(self) -> str:
        """Return the empty text: this is no execution."""
        return ""

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Refuse.

        Raises:
            WorkflowError: Always.
        """
        del request
        raise WorkflowError("capability calls cannot be made during trigger subscription")

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        """Refuse.

        Raises:
            WorkflowError: Always.
        """
        del request
        raise WorkflowError("secrets calls cannot be made during trigger subscription")

    def reserve_secrets(self, request: GetSecretsRequest) -> AbstractAsyncContextManager[Sequence[SecretError | None]]:
        """Refuse.

        Raises:
            WorkflowError: Always.
        """
        del request
        raise WorkflowError("secrets calls cannot be made during trigger subscription")

    async def node_time(self) -> int:
        """Return this node's time, in nanoseconds since the epoch."""
        return self._clock.now()

    async def don_time(self) -> int:
        """Return the DON's time, in nanoseconds since the epoch."""
        return self._don.read()

    def emit_log(self, message: str) -> None:
        """Record one line of the workflow's log."""
        self._logs.emit(message)

    def emit_metric(self, metric: UserMetric) -> None:
        """Refuse.

        Raises:
            WorkflowError: Always.
        """
        del metric
        raise WorkflowError("user metrics cannot be emitted during trigger subscription")


async def subscribe(
    config: bytes, module: ChosenModule, *, limits: EngineLimits, logs: LogBuffer, clock: Clock
) -> TriggerSubscriptionRequest:
    """Ask a workflow's binary for its triggers.

    Args:
        config: The workflow's configuration.
        module: Its module, started.
        limits: Its limits.
        logs: Where its lines go.
        clock: The time.

    Returns:
        Its subscriptions; at least one.

    Raises:
        InnkeeperError: The module refused or failed.
        DeadlineExceededError: It was too slow.
        WorkflowError: The binary answered with an error, or with something else than triggers.
    """
    request = ExecuteRequest(config=config, max_response_size=limits.response_bytes)
    request.subscribe.SetInParent()
    run = Run(
        execution_id="",
        attempt=1,
        deadline=clock.monotonic() + limits.subscribe_seconds,
        helper=SubscribeHelper(logs, clock),
    )
    try:
        async with asyncio.timeout(limits.subscribe_seconds):
            result = await contain(lambda: module.execute(request, run), passes=(Exception,), fault=_fault)
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"the workflow did not say its triggers within {limits.subscribe_seconds:g} s",
            hint="raise PerWorkflow.TriggerSubscriptionTimeout if it needs longer",
        ) from error
    which = result.WhichOneof("result")
    if which == "error":
        raise WorkflowError(f"the workflow failed while it said its triggers: {result.error}")
    if which != "trigger_subscriptions":
        raise WorkflowError(
            "the workflow did not answer with its triggers",
            expected="trigger_subscriptions",
            actual=which or "nothing",
        )
    if not result.trigger_subscriptions.subscriptions:
        raise WorkflowError("the workflow has no triggers, so it would never run")
    return result.trigger_subscriptions


def _fault(error: BaseException) -> ProviderError:
    return ProviderError(f"the module is at fault: {class_name(error)}")

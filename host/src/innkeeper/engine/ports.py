"""What the engine needs of other rooms, and what its users may plug in.

Rules of this module:

1. Only types: whoever provides one of these need not know the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from attrs import frozen

from innkeeper.capabilities.callers import WorkflowCaller
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityRequest, CapabilityResponse
from innkeeper_sdk.hooks import Limits
from innkeeper_sdk.module import Run, UserMetric, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult

__all__ = [
    "CapabilityRegistry",
    "ChosenModule",
    "HostLimits",
    "MetricSink",
    "ResolvedCapability",
    "SecretRefusal",
    "SecretSource",
]


class ResolvedCapability(Protocol):
    """A capability that a workflow may call."""

    @property
    def info(self) -> CapabilityInfo:
        """Return what the host knows it by; its id is the resolved one."""

    @property
    def capability(self) -> Capability:
        """Return the capability, which raises nothing but CapabilityError."""

    @property
    def call_limits(self) -> Mapping[str, str]:
        """Return the name of the limit that counts a method's calls, by method."""


class HostLimits(Limits, Protocol):
    """The declared limits, as the host holds them."""

    def check(self, name: str, amount: float, *, owner: str = "", workflow_id: str = "") -> None:
        """Check an amount; limits are inclusive.

        Raises:
            LimitExceededError: It is larger than the workflow may have.
        """


class CapabilityRegistry(Protocol):
    """The registry as the engine uses it."""

    @property
    def next_change(self) -> asyncio.Event:
        """Return what is set when something was registered, unregistered or permitted after now."""

    def resolve(self, caller: WorkflowCaller, capability_id: str) -> ResolvedCapability:
        """Return the capability that an id stands for, to this workflow.

        Raises:
            NotFoundError: There is none that it may call.
            CapabilityError: Its provider is not ready.
        """

    async def call(self, caller: WorkflowCaller, request: CapabilityRequest) -> CapabilityResponse:
        """Resolve and execute.

        Raises:
            InnkeeperError: The call was refused or failed.
        """


@frozen
class SecretRefusal:
    """Why a secret is not given.

    Attributes:
        reason: What the workflow is told.
    """

    reason: str


class SecretSource(Protocol):
    """Where secrets come from."""

    async def get(self, owner: str, namespace: str, name: str) -> str | SecretRefusal:
        """Return a secret of an owner, or why there is none.

        Raises:
            InnkeeperError: Nothing can be said about any secret now.
        """


class MetricSink(Protocol):
    """Where user metrics go."""

    def record(self, spec: WorkflowSpec, name: str, metric: UserMetric) -> None:
        """Take a metric.

        Args:
            spec: The workflow.
            name: Its full name: ``user_workflow_``, the guest's name, and ``_counter`` or ``_gauge``.
            metric: What the guest reported.
        """


class ChosenModule(Protocol):
    """The module of a workflow, which chooses by itself what runs which trigger."""

    @property
    def main(self) -> str:
        """Return the name of the main module type."""

    @property
    def why(self) -> str:
        """Return why it is the main one."""

    def module_of(self, trigger: int) -> str | None:
        """Return the name of the module type that runs a trigger, or None if none was chosen."""

    async def start(self) -> None:
        """Make ready to execute."""

    async def close(self) -> None:
        """End what runs and let go of everything; idempotent, also after a failed start."""

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        """Execute one request."""

"""What a module type is: a way to run workflow binaries.

Rules of this module:

1. A module type loads a workflow spec's binary into a module; a module executes requests, many at once.
2. Everything an execution may do outside itself goes through its execution helper.
3. ``Unavailable`` means *deferred*: not ready yet. It never means "run it some other way".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import field, frozen

from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    ExecuteRequest,
    ExecutionResult,
    GetSecretsRequest,
    Requirements,
    Restrictions,
    SecretError,
    SecretResponse,
    TeeTypeAndRegions,
)

__all__ = ["ExecutionHelper", "Module", "ModuleType", "Run", "UserMetric", "WorkflowSpec"]

LimitValue = bool | int | float


@frozen
class WorkflowSpec:
    """What a module type is told of a deployed workflow.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits, without ``0x``.
        name: As deployed.
        tag: As deployed.
        kind: The kind of its binary, as the module type's manifest names it.
        binary_url: Where the binary came from; a locator, not a secret.
        attributes: The deployment attributes.
        limits: Every limit that the module type's provider declares, resolved for this workflow: sizes in bytes,
            durations in seconds, counts, and switches.
    """

    workflow_id: str
    owner: str
    name: str
    tag: str
    kind: str
    binary_url: str = ""
    attributes: Mapping[str, object] = field(factory=dict)
    limits: Mapping[str, LimitValue] = field(factory=dict)


@frozen
class UserMetric:
    """A number that a workflow reports.

    Attributes:
        name: As the guest gave it.
        value: Its value.
        kind: ``counter`` or ``gauge``.
        labels: Its labels.
    """

    name: str
    value: float
    kind: str
    labels: Mapping[str, str]


class ExecutionHelper(Protocol):
    """The callbacks of one execution.

    Every call may be cancelled: the execution is over.
    """

    @property
    def execution_id(self) -> str:
        """Return the execution's id, 64 hexadecimal digits; empty while subscribing."""

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability on behalf of the workflow.

        Raises:
            CapabilityError: The call failed; its wire form is what the guest is told.
            InnkeeperError: The call was refused; its text is what the guest is told.
        """

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        """Return one answer per requested secret, in their order.

        Raises:
            InnkeeperError: The whole request was refused.
        """

    def reserve_secrets(self, request: GetSecretsRequest) -> AbstractAsyncContextManager[Sequence[SecretError | None]]:
        """Admit a request for secrets that the module brings to its guest by itself, sealed from the host.

        It counts, and is recorded and restricted, as ``get_secrets`` of the same request would be; no value is read.
        The module fetches the secrets inside the context, which holds the request's place among those under way.

        Returns:
            A context that gives, per requested secret and in their order, None if it may be fetched, or its refusal.

        Raises:
            InnkeeperError: When it is called or entered: the whole request was refused.
        """

    async def node_time(self) -> int:
        """Return this node's time, in nanoseconds since the epoch."""

    async def don_time(self) -> int:
        """Return the DON's time for the next read of this execution, in nanoseconds since the epoch."""

    def emit_log(self, message: str) -> None:
        """Record one line of the workflow's log."""

    def emit_metric(self, metric: UserMetric) -> None:
        """Record one user metric.

        Raises:
            InnkeeperError: It was refused.
        """


@frozen
class Run:
    """One attempt of one execution.

    Attributes:
        execution_id: 64 hexadecimal digits; empty while subscribing.
        attempt: From 1.
        deadline: When it is to be over, in seconds of ``time.monotonic``.
        helper: Its callbacks.
        requirements: What its subscription requires, or None.
        restrictions: What its pre-hook forbids, or None.
        node_seed: Seed of the guest's random numbers outside DON mode, signed 64 bits: random for an execution, and
            the same for each of its attempts, which ask for the same things only then.
    """

    execution_id: str
    attempt: int
    deadline: float
    helper: ExecutionHelper
    requirements: Requirements | None = None
    restrictions: Restrictions | None = None
    node_seed: int = 0


class Module(ABC):
    """One binary, loaded and ready."""

    async def start(self) -> None:  # noqa: B027 - optional
        """Make ready to execute."""

    async def close(self) -> None:  # noqa: B027 - optional
        """End what runs and let go of everything; idempotent, also after a failed start."""

    @abstractmethod
    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        """Execute one request; many may run at once.

        Args:
            request: What the guest is told. It is not changed.
            run: The attempt.

        Returns:
            The guest's result; an ``error`` in it is the workflow's own.

        Raises:
            InnkeeperError: The execution failed: refused, trapped, out of time, or ended without a result.
        """


class ModuleType(ABC):
    """A way to run workflow binaries."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the name that the manifest gives this module type."""

    async def start(self) -> None:  # noqa: B027 - optional
        """Make ready; nothing is loaded before it returns."""

    async def close(self) -> None:  # noqa: B027 - optional
        """Close what is left and let go of everything; idempotent."""

    @abstractmethod
    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        """Load a binary.

        Args:
            spec: The workflow.
            binary: Its bytes as stored: after base64, before any decompression.

        Returns:
            The module, not yet started.

        Raises:
            InnkeeperError: The binary is refused, with the reason.
            UnavailableError: It cannot be loaded yet: the workflow is deferred.
        """

    async def offers(self) -> Sequence[TeeTypeAndRegions]:
        """Return the TEE types and regions that this module type runs in; empty when it runs in none.

        Asked at each subscribe.

        Raises:
            UnavailableError: It cannot be told yet: the workflow is deferred.
        """
        return ()

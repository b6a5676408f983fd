"""What a capability is: a trigger, an action or a consensus service that workflows may call.

Rules of this module:

1. One object serves in the host's process and as a LOOP standard capability: nothing here knows which.
2. Payloads are ``google.protobuf.Any``; the method selects the message.
3. A failure that a workflow may see is a :class:`CapabilityError`. Its wire form always has four parts,
   ``Visibility:Origin:Code:message``, so that no text can be taken for a part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from enum import Enum, IntEnum
from typing import Final, Protocol, Self

from attrs import field, frozen
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper_sdk.errors import ExitCode, InnkeeperError

__all__ = [
    "Capability",
    "CapabilityError",
    "CapabilityInfo",
    "CapabilityRequest",
    "CapabilityResponse",
    "CapabilityType",
    "ErrorCode",
    "ErrorVisibility",
    "HostRegistry",
    "MethodInfo",
    "Origin",
    "Registry",
    "RequestMetadata",
    "TriggerEvent",
    "TriggerRegistration",
    "Visibility",
]


class CapabilityType(Enum):
    """What a capability offers; the values are the words of manifests and of the command line."""

    TRIGGER = "trigger"
    ACTION = "action"
    CONSENSUS = "consensus"
    TARGET = "target"
    COMBINED = "combined"


class Visibility(Enum):
    """Who may use a capability: every workflow, or only those it was granted to."""

    PUBLIC = "public"
    INTERNAL = "internal"


class ErrorVisibility(Enum):
    """Whether the text of an error may leave the node."""

    PUBLIC = "Public"
    PRIVATE = "Private"


class Origin(Enum):
    """Whose fault an error is: the workflow author's or the system's."""

    USER = "User"
    SYSTEM = "System"


class ErrorCode(IntEnum):
    """Codes of capability errors: the sixteen of gRPC and three of the reference."""

    Canceled = 1
    Unknown = 2
    InvalidArgument = 3
    DeadlineExceeded = 4
    NotFound = 5
    AlreadyExists = 6
    PermissionDenied = 7
    ResourceExhausted = 8
    FailedPrecondition = 9
    Aborted = 10
    OutOfRange = 11
    Unimplemented = 12
    Internal = 13
    Unavailable = 14
    DataLoss = 15
    Unauthenticated = 16
    ConsensusFailed = 100
    LimitExceeded = 101
    InsufficientObservations = 102


_PARTS: Final = 4


class CapabilityError(InnkeeperError):
    """Raised by a capability whose call failed.

    Args:
        message: What a caller is told.
        code: The class of the failure.
        origin: Whose fault it is.
        visibility: Whether the text may leave the node.
    """

    code = "capability"
    exit_code = ExitCode.PROBLEMS

    def __init__(
        self,
        message: str,
        *,
        error_code: ErrorCode = ErrorCode.Unknown,
        origin: Origin = Origin.SYSTEM,
        visibility: ErrorVisibility = ErrorVisibility.PUBLIC,
    ) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.origin = origin
        self.visibility = visibility

    def __str__(self) -> str:
        """Return ``[code]Name: message``, the form that the official SDKs show."""
        return f"[{self.error_code.value}]{self.error_code.name}: {self.message}"

    def serialize(self) -> str:
        """Return the wire form, ``Visibility:Origin:Code:message``."""
        return f"{self.visibility.value}:{self.origin.value}:{self.error_code.name}:{self.message}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the error that a wire form stands for.

        A text without four parts, or whose first three are not known words, is a private system error of unknown
        code with the whole text: the reference cuts such texts.
        """
        parts = text.split(":", _PARTS - 1)
        if len(parts) == _PARTS and parts[2] in ErrorCode.__members__:
            try:
                visibility, origin = ErrorVisibility(parts[0]), Origin(parts[1])
            except ValueError:
                pass
            else:
                return cls(parts[3], error_code=ErrorCode[parts[2]], origin=origin, visibility=visibility)
        return cls(text, visibility=ErrorVisibility.PRIVATE)


@frozen
class MethodInfo:
    """One method of a capability.

    Attributes:
        name: The name that a request carries.
        input: Full name of the message it takes.
        output: Full name of the message it answers with, or that its events carry.
        idempotent: Whether repeating a call whose answer was lost is harmless.
    """

    name: str
    input: str | None = None
    output: str | None = None
    idempotent: bool = False


@frozen
class CapabilityInfo:
    """What a capability says of itself.

    Attributes:
        id: ``name[:label…]@semver``, at most 128 characters.
        type: What it offers.
        description: One sentence for an operator.
        methods: Its methods by name.
    """

    id: str
    type: CapabilityType
    description: str = ""
    methods: Mapping[str, MethodInfo] = field(factory=dict)


@frozen
class RequestMetadata:
    """Who asks: filled by the host from what it knows, never from what a workflow says.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        workflow_owner: 40 hexadecimal digits, without ``0x``.
        workflow_execution_id: 64 hexadecimal digits; empty for a registration.
        workflow_name: Hexadecimal form of the first ten hexadecimal digits of the name's SHA-256.
        decoded_workflow_name: The name as deployed.
        workflow_tag: The tag as deployed.
        reference_id: The decimal callback id of a call, ``trigger_<i>`` of a registration.
        workflow_don_id: The DON that the workflow runs on.
        workflow_don_config_version: Pinned to 1, as in the reference.
    """

    workflow_id: str
    workflow_owner: str
    workflow_execution_id: str = ""
    workflow_name: str = ""
    decoded_workflow_name: str = ""
    workflow_tag: str = ""
    reference_id: str = ""
    workflow_don_id: int = 1
    workflow_don_config_version: int = 1


@frozen
class CapabilityRequest:
    """One call of a method.

    Attributes:
        metadata: Who asks.
        capability_id: The resolved id.
        method: The method's name.
        payload: Its message.
        deadline: When the caller stops waiting, in seconds of ``time.monotonic``; None without one.
        idempotency_key: The same for every attempt of the same call; empty if the host has none.
    """

    metadata: RequestMetadata
    capability_id: str
    method: str
    payload: AnyMessage
    deadline: float | None = None
    idempotency_key: str = ""


@frozen
class CapabilityResponse:
    """The answer of a call."""

    payload: AnyMessage


@frozen
class TriggerRegistration:
    """One subscription of a workflow to a trigger.

    Attributes:
        trigger_id: Unique for the workflow and the subscription's index: ``trigger_reg_<workflow id>_<index>``.
        metadata: Who asks; its ``reference_id`` is ``trigger_<index>``.
        method: The trigger method's name.
        payload: Its configuration message.
    """

    trigger_id: str
    metadata: RequestMetadata
    method: str
    payload: AnyMessage


@frozen
class TriggerEvent:
    """One event of a trigger.

    Attributes:
        id: Deterministic: the same event delivered twice has the same id.
        payload: Its message.
    """

    id: str
    payload: AnyMessage


class Capability(ABC):
    """A trigger, an action or a consensus service.

    A capability that is no trigger leaves the trigger methods as they are, and the other way round. Methods may run
    concurrently. ``execute`` observes cancellation: its caller has gone.
    """

    @property
    @abstractmethod
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself; cheap, and the same for its whole life."""

    async def start(self) -> None:  # noqa: B027 - optional
        """Make ready; nothing is called before it returns."""

    async def close(self) -> None:  # noqa: B027 - optional
        """Stop and let go of everything; idempotent."""

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Args:
            request: The call.

        Returns:
            The answer.

        Raises:
            CapabilityError: The call failed.
        """
        raise CapabilityError(f"method {request.method} not found", error_code=ErrorCode.Unimplemented)

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a subscription; return once it stands.

        Args:
            registration: The subscription.

        Returns:
            Its events, until it is unregistered. Whoever drains it slowly loses events only where the trigger's
            documentation says so.

        Raises:
            CapabilityError: The subscription is refused.
        """
        raise CapabilityError(
            f"trigger {registration.method} not found", error_code=ErrorCode.NotFound, origin=Origin.USER
        )

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a subscription and its events; unknown ids are fine, so that it can be repeated."""
        raise CapabilityError(f"trigger {registration.method} not found", error_code=ErrorCode.NotFound)

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:  # noqa: B027 - optional
        """Take note that an event is durably accepted and need not be sent again."""

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        """Return what this registration would deliver next, without waiting and without registering it.

        Returns:
            The event, or None when this trigger cannot know it ahead.

        Raises:
            CapabilityError: The subscription would be refused.
        """
        del registration
        return None


class Registry(Protocol):
    """The registry as one provider sees it: bound to that provider's identity, which it cannot change."""

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability that this provider may call.

        Raises:
            NotFoundError: There is no such capability, or this provider may not use it: the two look the same.
            CapabilityError: The call failed.
        """

    async def list(self) -> list[CapabilityInfo]:
        """Return the capabilities that this provider may see, sorted by id."""


class HostRegistry(Registry, Protocol):
    """The registry as a host part sees it: it can also ask, and wait, until something can be called."""

    def ready(self, capability_id: str) -> bool:
        """Return whether a call would be taken now; False also for what is unknown or not permitted."""

    async def wait_ready(self, capability_id: str) -> None:
        """Return once the capability can be called; the caller bounds the wait.

        Raises:
            NotFoundError: There is no such capability, or this provider may not use it; raised at once.
        """

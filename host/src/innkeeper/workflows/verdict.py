"""What a failed start means: deferred or failed, and whether to try again.

Rules of this module:

1. Deferred means that something it needs is not ready: it is tried again for as long as it takes.
2. What is wrong with the workflow itself is not tried again; whoever deploys or activates it begins anew.
3. Everything else is failed, and tried again with growing pauses, but not for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from innkeeper.engine.errors import TriggerRegistrationError
from innkeeper.workflows.views import WorkflowState
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.errors import (
    ConfigError,
    ConflictError,
    DeadlineExceededError,
    InnkeeperError,
    LimitExceededError,
    UnavailableError,
    VerificationError,
    WorkflowError,
)

__all__ = ["Verdict", "judge"]

# The reference's activation errors that are not retried, by class where it has only their texts.
_PERMANENT: Final = (VerificationError, WorkflowError, LimitExceededError, ConfigError, ConflictError)


@frozen
class Verdict:
    """What a failed start means.

    Attributes:
        state: Deferred or failed.
        retry: Whether to try again by itself.
        reason: What the operator is told.
        wants_place: Whether it can help that another workflow stops.
    """

    state: WorkflowState
    retry: bool
    reason: str
    wants_place: bool = False


def judge(error: BaseException) -> Verdict:
    """Return what a failed start means."""
    if any(_not_ready(link) for link in _chain(error)):
        return Verdict(WorkflowState.DEFERRED, retry=True, reason=str(error))
    if isinstance(error, TriggerRegistrationError):
        refusal = error.__cause__
        by_author = isinstance(refusal, CapabilityError) and refusal.origin is Origin.USER
        return Verdict(WorkflowState.FAILED, retry=not by_author, reason=str(error))
    if isinstance(error, InnkeeperError):
        return Verdict(
            WorkflowState.FAILED,
            # What was too slow may have been slowed down by the machine.
            retry=isinstance(error, DeadlineExceededError) or not isinstance(error, _PERMANENT),
            reason=str(error),
            wants_place=isinstance(error, LimitExceededError),
        )
    return Verdict(WorkflowState.FAILED, retry=True, reason=f"the host is at fault: {type(error).__name__}")


def _not_ready(error: BaseException) -> bool:
    if isinstance(error, CapabilityError):
        return error.error_code is ErrorCode.Unavailable
    return isinstance(error, UnavailableError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__

"""Who asks for a capability, and what each may do.

Rules of this module:

1. A caller is a workflow, a provider or the operator. Only the host makes callers; nothing that a workflow or a
   provider sends names one.
2. There are two rights. Workflows see and call what is public. A provider sees and calls what is public, its own, and
   what plugins.yaml grants to it by exact id. The operator sees everything and calls nothing internal.
3. ``permits`` names every case in which the answer is yes; everything else, an unknown caller too, is no.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from attrs import frozen

from innkeeper_sdk.capability import Visibility

__all__ = ["Caller", "Operator", "ProviderCaller", "Right", "WorkflowCaller", "permits"]


class Right(Enum):
    """What a caller wants to do with a capability."""

    SEE = "see"
    CALL = "call"


@frozen
class WorkflowCaller:
    """A workflow, in one execution or while it registers its triggers.

    Attributes:
        owner: 40 hexadecimal digits.
        workflow_id: 64 hexadecimal digits.
        execution_id: 64 hexadecimal digits; empty outside an execution.
    """

    owner: str
    workflow_id: str
    execution_id: str = ""


@frozen
class ProviderCaller:
    """A provider.

    Attributes:
        provider_id: Its id.
    """

    provider_id: str


@frozen
class Operator:
    """Whoever holds the control socket."""


Caller = WorkflowCaller | ProviderCaller | Operator


def permits(
    caller: Caller, right: Right, *, provider_id: str, visibility: Visibility, granted_to: Collection[str]
) -> bool:
    """Return whether a caller has a right on a capability.

    Args:
        caller: Who asks.
        right: What for.
        provider_id: The provider that the capability belongs to.
        visibility: The capability's effective visibility.
        granted_to: The providers that it is granted to.
    """
    if isinstance(caller, Operator) and right is Right.SEE:
        return True
    if right is not Right.SEE and right is not Right.CALL:
        return False
    if isinstance(caller, ProviderCaller) and (caller.provider_id == provider_id or caller.provider_id in granted_to):
        return True
    return visibility is Visibility.PUBLIC and isinstance(caller, WorkflowCaller | ProviderCaller | Operator)

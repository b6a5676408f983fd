"""What can be said of a provider at any moment.

Rules of this module:

1. Every state but those of a provider that simply runs comes with its reason, one sentence for the operator.
2. ``failed`` is the provider's or its entry's fault, ``unsupported`` is this host's limit, ``stopped`` and ``disabled``
   are what the operator asked for.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from innkeeper.providers.parts import PartRow

__all__ = ["ProviderState", "ProviderStatus", "ProviderStatusRow"]


class ProviderState(Enum):
    """How a provider is; the values are the words of the control protocol and the command line."""

    DISABLED = "disabled"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"

    @property
    def serves(self) -> bool:
        """Whether all its parts are there to be used."""
        return self in (ProviderState.READY, ProviderState.DEGRADED)


@frozen
class ProviderStatus:
    """A state, why, and since when.

    Attributes:
        state: The state.
        reason: One sentence; empty where there is nothing to say.
        since: When it came to be so, in UTC.
    """

    state: ProviderState
    reason: str
    since: datetime


@frozen
class ProviderStatusRow:
    """A provider as it is listed.

    Attributes:
        id: Its id.
        title: What a person calls it.
        package: Its distribution, or what plugins.yaml names if that is not installed.
        version: The distribution's version; empty if it is not installed.
        mode: ``host`` or ``loop``: where its capabilities run that have a choice, or its only parts.
        status: How it is.
        required: Whether the host stops when it fails.
        origin: Where it stands in which plugins.yaml.
        parts: Its parts, the host part first, each helper after its process.
    """

    id: str
    title: str
    package: str
    version: str
    mode: str
    status: ProviderStatus
    required: bool
    origin: str
    parts: tuple[PartRow, ...] = ()

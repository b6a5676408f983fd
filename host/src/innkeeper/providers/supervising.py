"""What keeps the processes of providers, put together of the host's parts.

Rules of this module:

1. A process has its provider's rights and no others: what it may use of the registry is bound to the plan's provider.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from attrs import field, frozen

from innkeeper.capabilities.peers import ProviderPeers
from innkeeper.capabilities.registry import Registry
from innkeeper.loop.guard import Guard
from innkeeper.loop.peers import Registrar
from innkeeper.loop.plans import ProcessPlan
from innkeeper.loop.supervisor import Supervisor

__all__ = ["Supervising"]


@frozen
class Supervising:
    """Make supervisors.

    Attributes:
        guard: The guard.
        registry: The registry.
        host_public_key: 32 bytes: what this host is known by.
        app_id: What processes know this host by.
        logger: The parent of the processes' loggers.
    """

    guard: Guard
    registry: Registry
    host_public_key: bytes
    app_id: str
    logger: logging.Logger = field(factory=lambda: logging.getLogger("innkeeper.processes"))

    def __call__(self, plan: ProcessPlan, registrar: Registrar, changed: Callable[[], None]) -> Supervisor:
        """Return what keeps a process, not yet started.

        Args:
            plan: What to run.
            registrar: Where its capabilities go.
            changed: Called after every change of a part.
        """
        return Supervisor(
            plan,
            guard=self.guard,
            registrar=registrar,
            peers=ProviderPeers(self.registry, plan.provider_id),
            host_public_key=self.host_public_key,
            app_id=self.app_id,
            logger=self.logger.getChild(plan.provider_id),
            changed=changed,
        )

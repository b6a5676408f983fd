"""The engines that run, by workflow id, and the places for them.

Rules of this module:

1. One engine for an id. A second one is an invariant violation, told with both sources; it never replaces the first.
2. A place is taken before anything is loaded and given back when the engine is closed; how many there are, in all and
   for each owner, is a limit.
"""

from __future__ import annotations

from collections import Counter

from attrs import frozen

from innkeeper.engine.engine import Engine
from innkeeper.engine.errors import EngineClosedError
from innkeeper.engine.ports import HostLimits
from innkeeper_sdk.errors import ConflictError

__all__ = ["Engines", "Registered"]


@frozen
class Registered:
    """An engine that runs.

    Attributes:
        engine: The engine.
        source: The source that listed its workflow.
    """

    engine: Engine
    source: str


class Engines:
    """Keep the engines of a host.

    Args:
        limits: The limits in force.
    """

    def __init__(self, limits: HostLimits) -> None:
        self._limits = limits
        self._engines: dict[str, Registered] = {}
        self._taken: Counter[str] = Counter()
        self._sealed = False

    def __contains__(self, workflow_id: str) -> bool:
        """Tell whether an engine runs the workflow."""
        return workflow_id in self._engines

    def __len__(self) -> int:
        """Return how many places are taken."""
        return self._taken.total()

    def reserve(self, owner: str) -> None:
        """Take a place.

        Raises:
            LimitExceededError: There is none, for this owner or at all.
            EngineClosedError: The host is stopping.
        """
        self._check_sealed()
        self._limits.check("WorkflowLimit", self._taken.total() + 1)
        self._limits.check("PerOwner.WorkflowLimit", self._taken[owner] + 1, owner=owner)
        self._taken[owner] += 1

    def release(self, owner: str) -> None:
        """Give a place back."""
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]

    def add(self, engine: Engine, *, source: str) -> None:
        """Register an engine that runs.

        Raises:
            ConflictError: Another engine runs this workflow.
            EngineClosedError: The host is stopping.
        """
        self._check_sealed()
        workflow_id = engine.spec.workflow_id
        if workflow_id in self._engines:
            raise ConflictError("an engine of this workflow is registered already", actual=workflow_id)
        self._engines[workflow_id] = Registered(engine, source)

    def get(self, workflow_id: str) -> Registered | None:
        """Return the engine of a workflow, or None."""
        return self._engines.get(workflow_id)

    def pop(self, workflow_id: str) -> None:
        """Forget an engine that is closed, and give its place back; idempotent."""
        registered = self._engines.pop(workflow_id, None)
        if registered is not None:
            self.release(registered.engine.spec.owner)

    def seal(self) -> None:
        """Take no more engines: the host is stopping."""
        self._sealed = True

    def all(self) -> list[Engine]:
        """Return every engine."""
        return [registered.engine for registered in self._engines.values()]

    def _check_sealed(self) -> None:
        if self._sealed:
            raise EngineClosedError("the host is stopping")

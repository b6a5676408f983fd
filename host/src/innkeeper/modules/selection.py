"""Choosing the module type that runs a workflow.

Rules of this module:

1. Attributes bind a whole workflow: the module type that they name is the only candidate, for everything. If it is not
   there, the workflow is deferred; it never runs another way.
2. Without a binding the main module is the one module type that takes the spec's kind. What runs which trigger is
   chosen when the workflow says its triggers, in ``selected``.
3. Whoever creates a module says what the workflow is bound to; there is no default that would mean "nothing".
"""

from __future__ import annotations

from collections.abc import Mapping

from innkeeper.modules.attributes import Binding
from innkeeper.modules.candidates import Candidate, ReadyModuleType
from innkeeper.modules.selected import SelectedModule, Surroundings
from innkeeper_sdk.errors import ConflictError, UnavailableError
from innkeeper_sdk.module import WorkflowSpec

__all__ = ["Modules", "SelectedModule", "Surroundings"]


class Modules:
    """Choose and load the modules of workflows.

    Args:
        around: What it needs of the rest of the host.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def create(self, spec: WorkflowSpec, binary: bytes, binding: Binding | None) -> SelectedModule:
        """Load a workflow.

        Args:
            spec: The workflow.
            binary: Its bytes as stored.
            binding: What its attributes bind it to; None only if they bind it to nothing.

        Returns:
            The module, not yet started.

        Raises:
            UnavailableError: It cannot be loaded yet: the workflow is deferred, with the reason.
            InnkeeperError: It is refused.
        """
        around = self._around
        ready = around.ready()
        name = _main(ready, spec.kind) if binding is None else _bound(around, ready, binding)
        main = Candidate(name, ready[name], spec=spec, binary=binary, limits=around.limits)
        await main.load()
        return SelectedModule(around, main, spec=spec, binary=binary, binding=binding)


def _main(ready: Mapping[str, ReadyModuleType], kind: str) -> str:
    """Return the one module type that takes a kind."""
    names = [
        name
        for name, one in ready.items()
        if any(declared.name == kind and declared.module == name for declared in one.manifest.kinds)
    ]
    if not names:
        raise UnavailableError(
            f"no module type that is ready takes the kind {kind}",
            hint="see innkeeper plugins list for the state of the provider that declares it",
        )
    if len(names) > 1:
        raise ConflictError(
            f"more than one module type takes the kind {kind}: {', '.join(names)}",
            hint="disable one of them in plugins.yaml",
        )
    return names[0]


def _bound(around: Surroundings, ready: Mapping[str, ReadyModuleType], binding: Binding) -> str:
    """Return the module type that a workflow is bound to."""
    one = ready.get(binding.module)
    if one is None or one.provider_id != binding.provider_id:
        reason = around.pending().get(binding.module) or around.absent(binding.provider_id)
        raise UnavailableError(
            f"the attributes ({', '.join(binding.keys)}) bind the workflow to the module type {binding.module} of the "
            f"provider {binding.provider_id}: {reason}",
            hint="see innkeeper plugins list for the provider's state",
        )
    return binding.module

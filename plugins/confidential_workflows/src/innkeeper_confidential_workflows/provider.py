"""What the entry point ``confidential-workflows`` names: the provider's hooks.

Rules of this module:

1. Importing it is cheap; what the module type and the relay need is imported when the host asks for it.
2. The module type and the relay of one context share one table of live executions.
3. The backend is what the configuration names. The simulation is for development; elsewhere the provider does not
   start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from innkeeper_sdk.capability import Capability
from innkeeper_sdk.errors import ProviderFailedError
from innkeeper_sdk.hooks import ProviderContext, hookimpl
from innkeeper_sdk.module import ModuleType

if TYPE_CHECKING:
    from innkeeper_confidential_workflows.relay.executions import LiveExecutions

__all__ = ["plugin"]

_SIMULATED: Final = "simulated"


class _Plugin:
    def __init__(self) -> None:
        self._shared: tuple[ProviderContext, LiveExecutions] | None = None

    @hookimpl
    def innkeeper_modules(self, context: ProviderContext) -> Sequence[ModuleType]:
        """Return the module type."""
        check_backend(context)
        from innkeeper_confidential_workflows.module import ConfidentialModuleType  # noqa: PLC0415 - rule 1

        return [
            ConfidentialModuleType(
                registry=context.registry, limits=context.limits, live=self._live(context), logger=context.logger
            )
        ]

    @hookimpl
    def innkeeper_capabilities(self, context: ProviderContext) -> Sequence[Capability]:
        """Return the relay."""
        check_backend(context)
        from innkeeper_confidential_workflows.protocol import trust_for  # noqa: PLC0415 - rule 1
        from innkeeper_confidential_workflows.relay.capability import Relay  # noqa: PLC0415 - rule 1

        return [
            Relay(
                self._live(context),
                registry=context.registry,
                host_key=context.host_key,
                trust=trust_for(context.environment, context.data_dir, context.logger),
                logger=context.logger,
            )
        ]

    def _live(self, context: ProviderContext) -> LiveExecutions:
        from innkeeper_confidential_workflows.relay.executions import LiveExecutions  # noqa: PLC0415 - rule 1

        if self._shared is None or self._shared[0] is not context:
            self._shared = (context, LiveExecutions())
        return self._shared[1]


def check_backend(context: ProviderContext) -> None:
    """Refuse a backend that the environment does not allow.

    Raises:
        ProviderFailedError: It is the simulation outside development, or none that this provider has.
    """
    backend = context.config.get("backend")
    if backend != _SIMULATED:
        raise ProviderFailedError(
            "the backend of confidential-workflows is none that it has",
            expected=_SIMULATED,
            actual=repr(backend),
            hint="set config.backend of its entry in plugins.yaml",
        )
    if context.environment != "development":
        raise ProviderFailedError(
            "the backend simulated protects nothing, and starts in development only",
            expected="environment: development",
            actual=f"environment: {context.environment}",
            hint="start the host with --dev, or disable confidential-workflows in plugins.yaml",
        )


plugin: Final = _Plugin()

"""What the entry point ``cron`` names: the provider's hooks.

Rules of this module:

1. Importing it is cheap; what the capability needs is imported when the host asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from innkeeper_sdk.capability import Capability
from innkeeper_sdk.hooks import ProviderContext, hookimpl

__all__ = ["plugin"]


class _Plugin:
    @hookimpl
    def innkeeper_capabilities(self, context: ProviderContext) -> Sequence[Capability]:
        """Return the trigger."""
        from innkeeper_cron.capability import CronTrigger, configured_interval  # noqa: PLC0415 - rule 1

        return [CronTrigger(limits=context.limits, logger=context.logger, fastest=configured_interval(context.config))]


plugin: Final = _Plugin()

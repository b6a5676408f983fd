"""What the entry point ``consensus`` names: the provider's hooks.

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
        """Return the consensus capability."""
        from innkeeper_consensus.capability import Consensus  # noqa: PLC0415 - rule 1

        return [Consensus(limits=context.limits, logger=context.logger, directory=context.data_dir / "signing")]


plugin: Final = _Plugin()

"""The process of the vault: a LOOP plugin."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from datetime import UTC, datetime

from innkeeper_sdk.capability import Capability
from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.loop import PluginContext, serve

__all__ = ["main"]


def main() -> None:
    """Serve the vault until the host has no use for it any more."""
    # The memory of this process holds secrets: a crash must not write it to a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(_provide)


def _provide(context: PluginContext) -> Sequence[Capability]:
    # Heavy; the host waits for the handshake, which comes first.
    from innkeeper_confidential_workflows.protocol.measurements import trust_for  # noqa: PLC0415 - see above
    from innkeeper_vault.capability import VaultCapability  # noqa: PLC0415 - see above
    from innkeeper_vault.store import SecretStore  # noqa: PLC0415 - see above

    if context.data_dir is None:
        raise ConfigError(
            "the vault has no directory of its own",
            provider=context.provider,
            expected="INNKEEPER_DATA_DIR, as the host sets it for a process",
        )
    return [
        VaultCapability(
            SecretStore(context.data_dir),
            trust_for(context.environment, context.data_dir, context.logger),
            host_key=context.host_public_key,
            logger=context.logger,
            clock=lambda: datetime.now(UTC),
        )
    ]

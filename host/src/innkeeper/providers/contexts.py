"""What a provider is given: its configuration, its directories, and its view of the host.

Rules of this module:

1. References are resolved here, and the configuration is checked once more: now nothing of it is left out.
2. A provider's directories are private and its own, below the host's. The runtime directory is empty at the start, and
   is removed in the end; so is whatever a former host has left where launches make their sockets.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from innkeeper.config.directories import ensure_private
from innkeeper.config.references import resolve, secrets_in
from innkeeper.config.settings import Settings
from innkeeper.loop.directory import sweep
from innkeeper.loop.plans import ProcessPlan
from innkeeper.providers.catalog import CatalogEntry
from innkeeper.providers.checks import config_faults
from innkeeper.providers.containment import Wall
from innkeeper.providers.plans import process_plans
from innkeeper.providers.ports import ProviderRegistry
from innkeeper_sdk.errors import ConfigError, ProviderFailedError
from innkeeper_sdk.hooks import HostKey, Limits, ProviderContext
from innkeeper_sdk.manifest import PROVIDER_ID, Manifest

__all__ = ["Contexts"]

# Below the host's directories: beside its database and sockets, not among them.
_BELOW: Final = "providers"
# Of all providers' processes: the path of a socket has room for no more than a short name.
_SOCKETS: Final = "loop"


class Contexts:
    """Makes the contexts of providers.

    Args:
        settings: The host's settings; its directories exist.
        registry: The registry.
        limits: The limits in force.
        host_key: The host's key.
        logger: The parent of the providers' loggers.
        environ: What ``$env`` refers to.
        commands: Where the commands that processes are started with are.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        registry: ProviderRegistry,
        limits: Limits,
        host_key: HostKey,
        logger: logging.Logger,
        environ: Mapping[str, str],
        commands: Path,
    ) -> None:
        self._settings = settings
        self._sockets: Final = settings.socket_dir / _SOCKETS
        self._registry = registry
        self._limits = limits
        self._host_key = host_key
        self._logger = logger
        self._environ = environ
        self._commands = commands

    def make(self, item: CatalogEntry, manifest: Manifest, wall: Wall) -> ProviderContext:
        """Return the context of a provider that is about to be imported.

        Args:
            item: Its entry.
            manifest: Its manifest.
            wall: Its wall, which learns what must not be shown.

        Raises:
            ConfigError: A reference cannot be resolved, or a directory cannot be had.
            ProviderFailedError: The configuration does not fit its schema.
        """
        base = Path(item.entry.origin.file).parent
        config = resolve(dict(item.entry.config or {}), base=base, environ=self._environ)
        wall.hide(secrets_in(config))
        faults = config_faults(manifest, config, item.entry.config_node, origin=item.entry.origin)
        if faults:
            raise ProviderFailedError("; ".join(faults))
        # What a host that was killed has left there is of no use to this one.
        self.clear(item)
        return ProviderContext(
            provider=item.id,
            config=config,
            environment=self._settings.environment,
            data_dir=self._private(self._settings.data_dir, item),
            cache_dir=self._private(self._settings.cache_dir, item),
            runtime_dir=self._private(self._settings.socket_dir, item),
            logger=self._logger.getChild(item.id),
            registry=self._registry.bound(item.id),
            limits=self._limits,
            host_key=self._host_key,
        )

    def plans(self, item: CatalogEntry, manifest: Manifest, context: ProviderContext, wall: Wall) -> list[ProcessPlan]:
        """Return what is to be run of a provider's process parts.

        Args:
            item: Its entry.
            manifest: Its manifest.
            context: Its context.
            wall: Its wall, which learns what must not be shown.

        Raises:
            ConfigError: A reference of its ``env`` cannot be resolved, or its ``restart`` is not valid.
            ProviderFailedError: An executable is not there.
        """
        base = Path(item.entry.origin.file).parent
        env = resolve(dict(item.entry.env), base=base, environ=self._environ)
        wall.hide(secrets_in(env))
        return process_plans(item, manifest, context, env=env, socket_dir=self._sockets, commands=self._commands)

    def sweep(self) -> None:
        """Remove the sockets of a former host's launches; called before anything is launched."""
        for fault in sweep(self._sockets):
            # Launches have names of their own: what is left is in nobody's way.
            self._logger.warning("something of a former host is left: %s", fault)

    def clear(self, item: CatalogEntry) -> None:
        """Remove a provider's runtime directory.

        Raises:
            ConfigError: It cannot be removed.
        """
        path = _below(self._settings.socket_dir, item)
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"{path} cannot be removed: {error.strerror}", path=str(path)) from error

    def _private(self, root: Path, item: CatalogEntry) -> Path:
        return ensure_private(_below(root, item), what=f"directory of {item.id}", follow=False)


def _below(root: Path, item: CatalogEntry) -> Path:
    # Only a manifest's id is a good name for a directory; what an entry is called otherwise is free text.
    if item.manifest is None or not PROVIDER_ID.fullmatch(item.id):
        raise RuntimeError(f"{item.id!r} is no provider's id")
    return root / _BELOW / item.id

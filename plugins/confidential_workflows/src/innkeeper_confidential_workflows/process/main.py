"""``innkeeper-confidential-workflows``: the LOOP plugin of confidential workflows.

Rules of this module:

1. What is heavy is imported when the host initialises the plugin: it waits for the handshake.
2. Simulated enclaves are refused outside development, here as in the launcher.
3. When the enclave is over, the process asks itself to end, as its host would.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from innkeeper_sdk.loop import serve

if TYPE_CHECKING:
    from innkeeper_confidential_workflows.process.enclave import Enclave
    from innkeeper_sdk.capability import Capability
    from innkeeper_sdk.loop import PluginContext

__all__ = ["main"]

_BACKENDS = ("simulated",)
_DEFAULT_REGION = "local"


class _Plugin:
    """The plugin of one process: its enclave outlives an Initialise."""

    def __init__(self) -> None:
        self._enclave: Enclave | None = None

    def provide(self, context: PluginContext) -> Sequence[Capability]:
        from innkeeper_confidential_workflows.process.capability import (  # noqa: PLC0415 - after the handshake
            ConfidentialWorkflows,
        )

        check(context)
        if self._enclave is None:
            self._enclave = _new_enclave(context)
        region = context.config.get("region", _DEFAULT_REGION)
        return [ConfidentialWorkflows(self._enclave, context.registry, region)]


def check(context: PluginContext) -> None:
    """Refuse a configuration that this plugin does not serve.

    Raises:
        ConfigError: The backend is unknown, missing, or not for this environment.
    """
    from innkeeper_sdk.errors import ConfigError  # noqa: PLC0415 - after the handshake

    backend = context.config.get("backend")
    if backend not in _BACKENDS:
        raise ConfigError(
            "the backend of confidential-workflows is not known",
            path="config.backend",
            expected=" or ".join(_BACKENDS),
            actual=repr(backend),
        )
    if context.environment != "development":
        raise ConfigError(
            "simulated enclaves protect nothing, and are for development only",
            path="config.backend",
            expected="environment: development",
            actual=context.environment,
            hint="run with --dev, or disable confidential-workflows",
        )


def _new_enclave(context: PluginContext) -> Enclave:
    import socket  # noqa: PLC0415 - after the handshake

    from innkeeper_confidential_workflows.launcher.errors import LaunchError  # noqa: PLC0415 - the same
    from innkeeper_confidential_workflows.process.enclave import Enclave  # noqa: PLC0415 - the same

    number = context.helpers.get("launcher")
    if number is None:
        raise LaunchError("there is no launcher", hint="the host starts this plugin together with its helper")
    return Enclave(socket.socket(fileno=number), context.logger, on_gone=lambda: os.kill(os.getpid(), signal.SIGTERM))


def main() -> None:
    """Serve the host that has started this process."""
    serve(_Plugin().provide)


if __name__ == "__main__":
    main()

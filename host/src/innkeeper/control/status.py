"""What a host says of itself."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from innkeeper import __version__
from innkeeper.config.settings import DEVELOPMENT, Settings
from innkeeper.control.convert import timestamp
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["MAX_CONFIG_BYTES", "MAX_FILE_BYTES", "HostStatus"]

# More than any kind of binary takes (the reference knows 100 MB, 134 MB in base64); what a kind takes is checked
# where it is loaded. This keeps a wrong file out of memory.
MAX_FILE_BYTES: Final = 192 << 20

# For the configuration; what a host that declares nothing else lets a workflow have is 50 kB.
MAX_CONFIG_BYTES: Final = 4 << 20


@define(eq=False)
class HostStatus:
    """How far a host is.

    Attributes:
        settings: Its settings.
        started_at: When it was started.
        ready: Whether every enabled provider has started or failed, and workflows have been reconciled once.
        draining: Whether it begins nothing new.
    """

    settings: Settings
    started_at: datetime = field(factory=lambda: datetime.now(UTC))
    ready: bool = False
    draining: bool = False

    @property
    def development(self) -> bool:
        """Return whether it is a development host."""
        return self.settings.environment == DEVELOPMENT

    def message(self) -> pb.Host:
        """Return it for the control protocol."""
        return pb.Host(
            name=self.settings.name,
            version=__version__,
            environment=self.settings.environment,
            pid=os.getpid(),
            ready=self.ready,
            draining=self.draining,
            started_at=timestamp(self.started_at),
            data_dir=str(self.settings.data_dir),
            max_file_bytes=MAX_FILE_BYTES,
        )

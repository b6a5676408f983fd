"""A handler of workflows, with a host around it."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.host.workflows.handler_world import Hosted, open_handler


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Let every log call be made: a record that cannot be made fails where it is made."""
    caplog.set_level(logging.DEBUG, "innkeeper")


@pytest.fixture
async def hosted(tmp_path: Path) -> AsyncIterator[Hosted]:
    """Return a host that keeps workflows, with default limits."""
    async with open_handler(tmp_path) as opened:
        yield opened

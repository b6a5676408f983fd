"""A host around the engine under test."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.host.engine.engine_world import World, open_world


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Let every log call be made: a record that cannot be made fails where it is made."""
    caplog.set_level(logging.DEBUG, "innkeeper")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Return a host with default limits."""
    async with open_world(tmp_path) as opened:
        yield opened

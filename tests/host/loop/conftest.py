"""A world of processes."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.host.loop.loop_world import World, open_world


@pytest.fixture
async def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    """Return a guard, a registry, and programs to run."""
    caplog.set_level(logging.DEBUG, "innkeeper")
    async with open_world(tmp_path) as opened:
        yield opened

"""A relay for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.plugins.confidential_workflows.relay.relay_world import RelayWorld, relay_world


@pytest.fixture
async def world(tmp_path: Path) -> RelayWorld:
    """Return a relay without a live execution."""
    return await relay_world(tmp_path)


@pytest.fixture
async def running(world: RelayWorld) -> AsyncIterator[RelayWorld]:
    """Return a relay for whom one execution is live."""
    async with world.live.registered(world.execution()):
        yield world

"""A simulated enclave, a host and a vault, for the tests of the protocol."""

from __future__ import annotations

import pytest

from tests.plugins.confidential_workflows.protocol.protocol_world import Clock, World, new_world


@pytest.fixture
def world() -> World:
    return new_world()


@pytest.fixture
def clock(world: World) -> Clock:
    return world.clock

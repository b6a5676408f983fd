"""A vault in a directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.plugins.confidential_workflows.protocol.protocol_world import new_world
from tests.plugins.vault.vault_world import VaultWorld


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[VaultWorld]:
    world = VaultWorld(new_world(), tmp_path / "providers" / "vault")
    await world.vault.start()
    yield world
    await world.vault.close()

"""One enclave for the tests of a module, and one for a test that harms it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parents[4]))

from tests.plugins.confidential_workflows.enclave.enclave_world import World, booted


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no coverage in processes that are confined: what writes it down would be refused there."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """An enclave for all tests of a module, which run on the module's loop and use executions of their own."""
    async with booted(tmp_path_factory.mktemp("enclave")) as world:
        yield world


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An enclave for one test."""
    async with booted(tmp_path) as made:
        yield made

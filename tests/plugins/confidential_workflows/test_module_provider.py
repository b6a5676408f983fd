"""The hooks of confidential-workflows."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from innkeeper_confidential_workflows.module import ConfidentialModuleType
from innkeeper_confidential_workflows.provider import plugin
from innkeeper_confidential_workflows.relay.capability import Relay
from innkeeper_sdk.errors import ProviderFailedError
from innkeeper_sdk.hooks import ProviderContext
from innkeeper_sdk.module import LimitValue
from tests.plugins.confidential_workflows.relay.relay_world import FakeRegistry, HostKey


class Limits:
    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
        return True


def context(tmp_path: Path, *, environment: str = "development", config: Mapping[str, Any] | None = None) -> Any:

    return ProviderContext(
        provider="confidential-workflows",
        config={"backend": "simulated"} if config is None else config,
        environment=environment,
        data_dir=tmp_path,
        cache_dir=tmp_path,
        runtime_dir=tmp_path,
        logger=logging.getLogger("test.provider"),
        registry=FakeRegistry(),
        limits=Limits(),
        host_key=HostKey(),
    )


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = ["wasmtime", "brotli", "cbor2", "cryptography", "grpc", "innkeeper_wasm"]
    code = (
        "import sys, innkeeper_confidential_workflows.provider\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_host_part_never_imports_what_runs_guests() -> None:
    code = (
        "import sys\n"
        "import innkeeper_confidential_workflows.module, innkeeper_confidential_workflows.relay.capability\n"
        "print([name for name in ('wasmtime', 'brotli', 'innkeeper_wasm') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_module_type_and_relay_share_what_is_live(tmp_path: Path) -> None:
    one = context(tmp_path)
    (module_type,) = plugin.innkeeper_modules(context=one)
    (relay,) = plugin.innkeeper_capabilities(context=one)
    assert isinstance(module_type, ConfidentialModuleType)
    assert isinstance(relay, Relay)
    assert module_type._live is relay._live


def test_another_context_has_executions_of_its_own(tmp_path: Path) -> None:
    (first,) = plugin.innkeeper_modules(context=context(tmp_path))
    other = context(tmp_path)
    (relay,) = plugin.innkeeper_capabilities(context=other)
    assert isinstance(first, ConfidentialModuleType)
    assert isinstance(relay, Relay)
    assert first._live is not relay._live


@pytest.mark.parametrize("environment", ["production", "", "Development", "staging"])
def test_the_simulation_does_not_start_outside_development(tmp_path: Path, environment: str) -> None:
    one = context(tmp_path, environment=environment)
    for hook in (plugin.innkeeper_modules, plugin.innkeeper_capabilities):
        with pytest.raises(ProviderFailedError, match="the backend simulated protects nothing"):
            hook(context=one)


@pytest.mark.parametrize("config", [{}, {"backend": "nitro"}, {"backend": ""}, {"backend": None}])
def test_there_is_no_default_and_no_other_backend(tmp_path: Path, config: dict[str, Any]) -> None:
    one = context(tmp_path, config=config)
    for hook in (plugin.innkeeper_modules, plugin.innkeeper_capabilities):
        with pytest.raises(ProviderFailedError, match="is none that it has"):
            hook(context=one)

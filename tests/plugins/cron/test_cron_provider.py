"""The provider's entry point."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pluggy
import pytest

from innkeeper_cron.provider import plugin
from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.hooks import HookSpecs, ProviderContext


def context(path: Path, config: dict[str, Any]) -> ProviderContext:
    return ProviderContext(
        provider="cron",
        config=config,
        environment="production",
        data_dir=path,
        cache_dir=path,
        runtime_dir=path,
        logger=logging.getLogger("innkeeper.test.cron"),
        registry=Mock(spec_set=["execute", "list"]),
        limits=Mock(spec_set=["get"]),
        host_key=Mock(spec_set=["public_key", "sign"]),
    )


def capabilities(path: Path, config: dict[str, Any]) -> list[str]:
    manager = pluggy.PluginManager("innkeeper")
    manager.add_hookspecs(HookSpecs)
    manager.register(plugin)
    manager.check_pending()
    (found,) = manager.hook.innkeeper_capabilities(context=context(path, config))
    return [capability.info.id for capability in found]


def test_its_hook_gives_the_capability(tmp_path: Path) -> None:
    assert capabilities(tmp_path, {"fastestScheduleIntervalSeconds": 1}) == ["cron-trigger@1.0.0"]
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_config_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="failed to unmarshal config"):
        capabilities(tmp_path, {"fastestScheduleIntervalSeconds": "soon"})


def test_importing_it_imports_none_of_its_parts() -> None:
    code = "import innkeeper_cron.provider, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert "innkeeper_cron.provider" in loaded
    assert not [name for name in loaded if name.startswith(("innkeeper_cron.capability", "innkeeper_cron.proto"))]
    assert not {"grpc", "zoneinfo", "tzdata"} & set(loaded)

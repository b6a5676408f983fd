"""The provider's entry point."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pluggy

from innkeeper_consensus.provider import plugin
from innkeeper_sdk.hooks import HookSpecs, ProviderContext


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_its_hook_gives_the_capability_and_touches_no_disk(tmp_path: Path) -> None:
    manager = pluggy.PluginManager("innkeeper")
    manager.add_hookspecs(HookSpecs)
    manager.register(plugin)
    manager.check_pending()
    context = ProviderContext(
        provider="consensus",
        config={},
        environment="production",
        data_dir=tmp_path,
        cache_dir=tmp_path,
        runtime_dir=tmp_path,
        logger=logging.getLogger("innkeeper.test.consensus"),
        registry=Mock(spec_set=["execute", "list"]),
        limits=Mock(spec_set=["get"]),
        host_key=Mock(spec_set=["public_key", "sign"]),
    )
    (found,) = manager.hook.innkeeper_capabilities(context=context)
    assert [capability.info.id for capability in found] == ["consensus@1.0.0-alpha"]
    for capability in found:
        await capability.start()
        await capability.close()
    assert entries(tmp_path) == []


def test_importing_it_imports_none_of_its_parts() -> None:
    code = "import innkeeper_consensus.provider, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert "innkeeper_consensus.provider" in loaded
    assert not [name for name in loaded if name.startswith("innkeeper_consensus.capability")]
    assert not {"coincurve", "Crypto", "grpc"} & {name.partition(".")[0] for name in loaded}

"""What importing the wire costs, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "innkeeper_sdk.manifest",
    "innkeeper_sdk.module",
    "innkeeper_sdk.hooks",
    "pluggy",
    "jsonschema",
    "yaml",
    "cattrs",
)


def imported(statement: str) -> set[str]:
    script = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["from innkeeper_sdk.loop import serve, PluginContext"])
def test_a_plugin_does_not_pay_for_manifests_and_hooks(statement: str) -> None:
    assert imported(statement).isdisjoint(HEAVY)


def test_the_package_alone_imports_no_grpc() -> None:
    assert "grpc" not in imported("import innkeeper_sdk.loop")


def test_a_host_that_imports_the_wire_does_not_get_the_plugins_side() -> None:
    modules = imported(
        "import innkeeper_sdk.loop.broker_streams, innkeeper_sdk.loop.remote, innkeeper_sdk.loop.serving"
    )

    assert modules.isdisjoint({"innkeeper_sdk.loop.plugin", "innkeeper_sdk.loop.stdout", "innkeeper_sdk.loop.ending"})


def test_an_unknown_name_is_an_attribute_error() -> None:
    import innkeeper_sdk.loop

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        innkeeper_sdk.loop.nothing  # noqa: B018 - the access is what is tested

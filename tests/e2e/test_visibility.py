"""An internal capability cannot be found or called by a workflow, on any path; whoever it was granted to can."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.guests

UNKNOWN = "no-such-thing@1.0.0"
# Ways in that a version or a label might open.
HIDDEN = [
    "hidden@1.0.0-alpha",
    "hidden@1.0.0-0",
    "hidden@1.0.0",
    "hidden@0.9.0",
    "hidden:label_x@1.0.0-alpha",
    "hidden@1.0.0-alpha+build",
]
MALFORMED = ["hidden", "hidden@", "", "hidden@1.0.0-alpha\n", "HIDDEN@1.0.0-alpha", "x" * 200 + "@1.0.0"]

MANIFEST = """
id: probe
title: Probe
sdk: ">=0"
capabilities:
  - {id: hidden@1.0.0-alpha, type: action, visibility: internal, methods: {Do: {}}}
  - {id: seen@1.0.0, type: action, visibility: public, methods: {Do: {}}}
"""

FRIEND_MANIFEST = """
id: friend
title: Friend
sdk: ">=0"
capabilities:
  - {id: door@1.0.0, type: action, visibility: public, methods: {Do: {}}}
"""

CODE = """
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from innkeeper_sdk import hookimpl
from innkeeper_sdk.capability import Capability, CapabilityInfo, CapabilityRequest, CapabilityResponse, CapabilityType


class Answers(Capability):
    def __init__(self, id, registry, through=None):
        self._info = CapabilityInfo(id=id, type=CapabilityType.ACTION)
        self._registry, self._through = registry, through

    @property
    def info(self):
        return self._info

    async def execute(self, request):
        if self._through is not None:
            await self._registry.execute(
                CapabilityRequest(
                    metadata=request.metadata, capability_id=self._through, method="Do", payload=request.payload
                )
            )
        payload = Any()
        payload.Pack(Empty())
        return CapabilityResponse(payload=payload)


@hookimpl
def innkeeper_capabilities(context):
    return [Answers(id, context.registry, through) for id, through in CAPABILITIES]
"""


def install(site: Path, name: str, manifest: str, capabilities: list[tuple[str, str | None]]) -> None:
    """Lay out an installed provider as pip would."""
    package = site / f"ik_{name}"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(textwrap.dedent(CODE) + f"\nCAPABILITIES = {capabilities!r}\n")
    (package / "innkeeper-provider.yaml").write_text(manifest)
    info = site / f"ik_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ik-{name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("")
    (info / "entry_points.txt").write_text(f"[innkeeper.providers]\n{name} = ik_{name}.plugin\n")


@pytest.fixture
def probed(host, tmp_path: Path, plugins_file: Path):
    """Return a host with a provider of an internal capability, and another that it may or may not be granted to."""
    site = tmp_path / "site"
    install(site, "probe", MANIFEST, [("hidden@1.0.0-alpha", None), ("seen@1.0.0", "hidden@1.0.0-alpha")])
    install(site, "friend", FRIEND_MANIFEST, [("door@1.0.0", "hidden@1.0.0-alpha")])
    host.cli.environ["PYTHONPATH"] = str(site)

    def start(grants: str = "[]") -> object:
        with plugins_file.open("a") as file:
            file.write(f"  probe: [{{package: ik-probe}}]\n  friend: [{{package: ik-friend, grants: {grants}}}]\n")
        host.start()
        return host

    return start


def calls(host, binary: Path, tmp_path: Path, ids: list[str]) -> list[str]:
    """Run the guest that calls these ids, and return what each call came to."""
    config = tmp_path / "ids.json"
    config.write_text(json.dumps({"ids": ids, "method": "Do"}))
    shown = host.cli.json("workflow", "run", binary, "--config", config)
    return shown["result"]["value"]


def test_a_workflow_cannot_tell_an_internal_capability_from_none(
    probed, guest: Callable[[str], Path], tmp_path: Path
) -> None:
    host = probed()
    binary = guest("tests/e2e/guests/caller")
    unknown, *refused = calls(host, binary, tmp_path, [UNKNOWN, *HIDDEN[:4]])
    refused += calls(host, binary, tmp_path, HIDDEN[4:] + MALFORMED)[: len(HIDDEN[4:] + MALFORMED)]
    assert UNKNOWN in unknown
    for id_, error in zip([*HIDDEN, *MALFORMED], refused, strict=True):
        assert error.replace(id_, UNKNOWN) == unknown or (id_ == "" and "not found" in error), id_


def test_what_is_public_may_use_what_is_its_providers_own(probed, guest: Callable[[str], Path], tmp_path: Path) -> None:
    host = probed()
    assert calls(host, guest("tests/e2e/guests/caller"), tmp_path, ["seen@1.0.0"]) == ["ok"]


def test_another_provider_needs_a_grant(probed, guest: Callable[[str], Path], tmp_path: Path) -> None:
    host = probed()
    (error,) = calls(host, guest("tests/e2e/guests/caller"), tmp_path, ["door@1.0.0"])
    assert "not found" in error


def test_a_grant_lets_another_provider_call(probed, guest: Callable[[str], Path], tmp_path: Path) -> None:
    host = probed("[hidden@1.0.0-alpha]")
    assert calls(host, guest("tests/e2e/guests/caller"), tmp_path, ["door@1.0.0"]) == ["ok"]


def test_the_operator_sees_it_and_whom_it_was_granted_to(probed) -> None:
    host = probed("[hidden@1.0.0-alpha]")
    listed = {c["id"]: c for c in host.cli.json("capabilities", "list")}
    assert listed["hidden@1.0.0-alpha"]["visibility"] == "internal"
    shown = host.cli.json("capabilities", "info", "hidden@1.0.0-alpha")
    assert shown["granted_to"] == ["friend"]

"""Finding Node.js and npm on machines of all sorts."""

from __future__ import annotations

from pathlib import Path

import pytest

from innkeeper_wasm.build.errors import NodeError
from innkeeper_wasm.build.interrupts import Interrupts
from innkeeper_wasm.build.node import find_node
from innkeeper_wasm.build.tools import Toolbox


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory of PATH, empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def toolbox() -> Toolbox:
    return Toolbox(Interrupts(), 5)


@pytest.mark.parametrize("version", ["20.0.0", "22.12.3", "100.0.0-nightly"])
def test_a_node_that_is_new_enough_is_found(machine: Path, version: str) -> None:
    program(machine / "node", f"echo '(node:7) Warning: v1.0.0 is old' >&2; echo v{version}")
    program(machine / "npm", "exit 1")
    node = find_node(toolbox())
    assert (node.node, node.npm, node.version) == (machine / "node", machine / "npm", version)


@pytest.mark.usefixtures("machine")
def test_a_machine_without_node_is_told_what_to_install() -> None:
    with pytest.raises(NodeError, match=r"Node\.js was not found .* install Node\.js 20 or newer"):
        find_node(toolbox())


def test_a_machine_without_npm_is_told_what_to_install(machine: Path) -> None:
    program(machine / "node", "echo v20.1.0")
    with pytest.raises(NodeError, match="npm was not found"):
        find_node(toolbox())


def test_a_node_that_is_too_old_is_refused_with_its_version(machine: Path) -> None:
    program(machine / "node", "echo v18.20.4")
    program(machine / "npm", "exit 1")
    with pytest.raises(NodeError, match=r"too old \(expected version 20 or newer, found 18\.20\.4\)"):
        find_node(toolbox())


@pytest.mark.parametrize("script", ["echo nonsense", "echo v20.1.0; exit 1", "echo oops >&2; exit 127"])
def test_something_else_that_is_called_node_is_refused(machine: Path, script: str) -> None:
    program(machine / "node", script)
    with pytest.raises(NodeError, match="does not tell its version"):
        find_node(toolbox())


def test_a_node_that_cannot_be_run_is_refused(machine: Path) -> None:
    (machine / "node").write_bytes(b"\x7fELF nonsense")
    (machine / "node").chmod(0o755)
    with pytest.raises(NodeError, match=r"Node\.js cannot be started: Exec format error"):
        find_node(toolbox())

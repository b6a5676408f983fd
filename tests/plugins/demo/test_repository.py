"""The clone is found from a directory upwards; elsewhere the error says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innkeeper_demo.repository import EXAMPLES, find_repository
from innkeeper_sdk.errors import ExitCode, UsageError


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in EXAMPLES:
        (tmp_path / "clone" / "examples" / name).mkdir(parents=True)
    (tmp_path / "clone" / "plugins.yaml").write_text("version: 1\n")
    return tmp_path / "clone"


def test_it_is_found_from_below(clone: Path) -> None:
    found = find_repository(clone / "examples" / "clock", {})
    assert found.root == clone
    assert found.plugins == (clone / "plugins.yaml",)
    assert found.example("sealed") == clone / "examples" / "sealed"


def test_other_plugins_may_be_named(clone: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    environ = {"INNKEEPER_PLUGINS": os.pathsep.join(map(str, files))}
    assert find_repository(clone, environ).plugins == tuple(files)


def test_a_clone_without_an_example_is_none(clone: Path) -> None:
    (clone / "examples" / "hostile").rmdir()
    with pytest.raises(UsageError, match="hostile") as caught:
        find_repository(clone, {})
    assert caught.value.exit_code is ExitCode.USAGE

"""Which packages a workflow is built with, and when two workflows share them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from innkeeper_wasm.build.errors import ProjectError
from innkeeper_wasm.build.package_set import PackageSet, read_package_set
from innkeeper_wasm.build.project import read_project

SDK = {"@chainlink/cre-sdk": "1.21.1"}
TOOLS = {"bun": "1.4.5", "typescript": "5.9.3"}
LOCK: dict[str, Any] = {
    "name": "flow",
    "version": "3.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "flow", "version": "3.0.0", "license": "MIT", "dependencies": SDK, "devDependencies": TOOLS},
        "node_modules/bun": {"version": "1.4.5", "integrity": "sha512-x"},
    },
}


def packages(directory: Path, package: dict[str, Any], lock: object = None) -> PackageSet:
    directory.mkdir(exist_ok=True)
    (directory / "main.ts").touch()
    (directory / "package.json").write_text(json.dumps(package))
    if lock is not None:
        (directory / "package-lock.json").write_text(json.dumps(lock))
    return read_package_set(read_project(directory))


def test_workflows_of_other_names_and_scripts_share_their_packages(tmp_path: Path) -> None:
    one = packages(tmp_path / "one", {"name": "flow", "dependencies": SDK, "devDependencies": TOOLS}, LOCK)
    renamed = {**LOCK, "name": "b", "packages": {**LOCK["packages"], "": {**LOCK["packages"][""], "name": "b"}}}
    two = packages(
        tmp_path / "two",
        {"name": "b", "scripts": {"postinstall": "false"}, "devDependencies": TOOLS, "dependencies": SDK},
        renamed,
    )
    assert one.digest == two.digest
    assert one.exact
    assert one.notes == ()


@pytest.mark.parametrize(
    "change",
    [
        {"dependencies": {**SDK, "zod": "3.25.76"}},
        {"dependencies": {"@chainlink/cre-sdk": "1.21.0"}},
        {"devDependencies": {**TOOLS, "bun": "1.3.8"}},
        {"overrides": {"zod": "3.25.76"}},
        {"peerDependencies": {"zod": "3"}},
    ],
)
def test_other_dependencies_are_other_packages(tmp_path: Path, change: dict[str, Any]) -> None:
    package = {"dependencies": SDK, "devDependencies": TOOLS}
    one = packages(tmp_path / "one", package, LOCK)
    assert one.digest != packages(tmp_path / "two", {**package, **change}, LOCK).digest


def test_another_lock_is_other_packages(tmp_path: Path) -> None:
    package = {"dependencies": SDK, "devDependencies": TOOLS}
    one = packages(tmp_path / "one", package, LOCK)
    other = json.loads(json.dumps(LOCK).replace("sha512-x", "sha512-y"))
    assert one.digest != packages(tmp_path / "two", package, other).digest
    assert one.digest != packages(tmp_path / "three", package).digest


def test_npm_settings_count_and_are_not_shown(tmp_path: Path) -> None:
    package = {"dependencies": SDK, "devDependencies": TOOLS}
    plain = packages(tmp_path / "one", package, LOCK)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / ".npmrc").write_text("//registry.example/:_authToken=hunter2")
    with_settings = packages(tmp_path / "two", package, LOCK)
    assert with_settings.digest != plain.digest
    assert b"hunter2" in (with_settings.settings or b"")
    assert "hunter2" not in repr(with_settings)


def test_what_is_installed_from_has_no_scripts(tmp_path: Path) -> None:
    made = packages(tmp_path / "one", {"scripts": {"postinstall": "x"}, "dependencies": SDK, "devDependencies": TOOLS})
    assert json.loads(made.manifest) == {
        "name": "innkeeper-workflow-packages",
        "version": "0.0.0",
        "private": True,
        "dependencies": SDK,
        "devDependencies": TOOLS,
    }


def test_tools_that_the_workflow_does_not_name_are_added_and_said(tmp_path: Path) -> None:
    made = packages(tmp_path / "one", {"dependencies": SDK, "devDependencies": {"typescript": "5.8.2"}}, LOCK)
    assert json.loads(made.manifest)["devDependencies"] == {"typescript": "5.8.2", "bun": "1.4.5"}
    # The lock does not cover what was added, so it is a starting point and not the whole truth.
    assert not made.exact
    assert made.lock is not None
    assert any("bun 1.4.5" in note and "typescript" not in note for note in made.notes)


def test_a_workflow_without_a_lock_is_said_to_be_unpinned(tmp_path: Path) -> None:
    made = packages(tmp_path / "one", {"dependencies": SDK, "devDependencies": TOOLS})
    assert made.lock is None
    assert not made.exact
    assert any("there is no package-lock.json" in note for note in made.notes)


def test_a_lock_of_another_tool_is_said_not_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "bun.lock").touch()
    made = packages(tmp_path, {"dependencies": SDK, "devDependencies": TOOLS})
    assert any("bun.lock is not read" in note for note in made.notes)


def test_a_shrinkwrap_is_a_lock_and_goes_first(tmp_path: Path) -> None:
    (tmp_path / "npm-shrinkwrap.json").write_text(json.dumps({**LOCK, "packages": {"": {}, "node_modules/x": {}}}))
    made = packages(tmp_path, {"dependencies": SDK, "devDependencies": TOOLS}, LOCK)
    assert b"node_modules/x" in (made.lock or b"")


@pytest.mark.parametrize("lock", [{"packages": []}, {"packages": {"": 3}}, {}])
def test_a_lock_of_another_shape_is_left_to_npm(tmp_path: Path, lock: object) -> None:
    assert packages(tmp_path, {"dependencies": SDK}, lock).lock is not None


@pytest.mark.parametrize(
    ("package", "problem"),
    [
        ({}, r"does not depend on the official SDK \(expected .* found no dependencies\)"),
        ({"dependencies": {"zod": "3"}}, "does not depend on the official SDK .* found zod"),
        ({"dependencies": []}, "`dependencies` is not an object"),
        ({"dependencies": {**SDK, "zod": 3}}, "gives zod no version"),
        ({"dependencies": {**SDK, "lib": "file:../lib"}}, "takes lib from a path"),
        ({"dependencies": {**SDK, "lib": "../lib"}}, "takes lib from a path"),
        ({"dependencies": SDK, "devDependencies": {"lib": "workspace:*"}}, "`devDependencies` takes lib from a path"),
    ],
)
def test_dependencies_that_cannot_be_installed_are_refused(
    tmp_path: Path, package: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ProjectError, match=problem):
        packages(tmp_path, package)

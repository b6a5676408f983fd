"""What of a directory is taken for a workflow, and what is copied of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from innkeeper_wasm.build import staging
from innkeeper_wasm.build.errors import ProjectError
from innkeeper_wasm.build.project import JSON_LIMIT, read_project
from innkeeper_wasm.build.staging import copy_sources


def workflow(directory: Path, package: object = None, *files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "package.json").write_text(json.dumps({} if package is None else package))
    for name in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return directory


@pytest.mark.parametrize(
    ("package", "files", "entry"),
    [
        ({"main": "flow.ts"}, ["flow.ts", "main.ts", "src/main.ts"], "flow.ts"),
        ({"main": "./src/../lib/flow.js"}, ["lib/flow.js", "main.ts", "src/x"], "lib/flow.js"),
        ({}, ["main.ts", "src/main.ts"], "main.ts"),
        ({}, ["src/main.ts"], "src/main.ts"),
    ],
)
def test_the_entry_is_main_of_the_package_else_main_ts_else_src_main_ts(
    tmp_path: Path, package: object, files: list[str], entry: str
) -> None:
    project = read_project(workflow(tmp_path, package, *files))
    assert project.entry == Path(entry)
    assert project.notes == ()


def test_a_main_that_names_an_output_never_made_is_passed_over_and_said(tmp_path: Path) -> None:
    project = read_project(workflow(tmp_path, {"main": "dist/main.js"}, "main.ts"))
    assert project.entry == Path("main.ts")
    assert project.notes == ("package.json names dist/main.js as main, which does not exist",)


@pytest.mark.parametrize(
    ("package", "files", "problem"),
    [
        ({"main": "flow.ts"}, ["main.ts"], r"flow\.ts: the entry file does not exist"),
        ({"main": 7}, ["main.ts"], r"package\.json: `main` is not the name of a file \(found 7\)"),
        ({"main": ""}, ["main.ts"], "is not the name of a file"),
        ({"main": "config.json"}, ["config.json"], r"is not a script .*found \.json"),
        ({"main": "../outside.ts"}, [], "does not exist"),
        ({"main": "dist/main.js"}, [], r"has no entry file .*dist/main\.js as main, which does not exist"),
        ({}, ["other.ts"], r"has no entry file \(expected main\.ts or src/main\.ts"),
        ([], [], "expected an object"),
    ],
)
def test_a_directory_without_an_entry_is_refused_with_the_reason(
    tmp_path: Path, package: object, files: list[str], problem: str
) -> None:
    with pytest.raises(ProjectError, match=problem):
        read_project(workflow(tmp_path, package, *files))


def test_an_entry_outside_the_workflow_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.ts").write_text("")
    with pytest.raises(ProjectError, match="lies outside the workflow"):
        read_project(workflow(tmp_path / "flow", {"main": "../outside.ts"}))


def test_a_directory_without_a_package_is_no_workflow(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"is no TypeScript workflow \(expected a package\.json in it, found none\)"):
        read_project(tmp_path)


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot be read"):
        read_project(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ProjectError, match="not a directory"):
        read_project(tmp_path / "file")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}", b'{"a": 1} x', b"[" * 100_000])
def test_a_package_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "package.json").write_bytes(content)
    with pytest.raises(ProjectError, match="is not JSON"):
        read_project(tmp_path)


def test_a_package_larger_than_packages_are_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "package.json").open("wb") as file:
        file.truncate(JSON_LIMIT + 1)
    with pytest.raises(ProjectError, match="too large"):
        read_project(tmp_path)


def test_a_package_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_bytes(b'\xef\xbb\xbf{"main": "a.ts"}')
    (tmp_path / "a.ts").touch()
    assert read_project(tmp_path).entry == Path("a.ts")


def test_the_root_is_the_nearest_project_above(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").touch()
    inner = tmp_path / "inner"
    directory = workflow(inner / "flow", {}, "main.ts")
    assert read_project(directory).root == tmp_path
    (inner / "project.yaml").touch()
    assert read_project(directory).root == inner


def test_the_root_is_looked_for_within_one_repository(tmp_path: Path) -> None:
    (tmp_path / "project.yaml").touch()
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    directory = workflow(tmp_path / "repository" / "flow", {}, "main.ts")
    assert read_project(directory).root == directory


def test_the_root_can_be_named_and_must_hold_the_workflow(tmp_path: Path) -> None:
    directory = workflow(tmp_path / "flow", {}, "main.ts")
    assert read_project(directory, tmp_path).root == tmp_path
    (tmp_path / "other").mkdir()
    with pytest.raises(ProjectError, match="does not lie in its root"):
        read_project(directory, tmp_path / "other")


def test_a_copy_has_all_sources_and_neither_hidden_files_nor_packages(tmp_path: Path) -> None:
    source = workflow(
        tmp_path / "flow",
        {},
        "main.ts",
        "lib/a.json",
        ".env",
        ".git/config",
        "node_modules/x/y.js",
        "lib/node_modules/z",
    )
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "b.ts").write_text("b")
    (source / "shared").symlink_to(tmp_path / "shared")
    (source / "gone").symlink_to(tmp_path / "gone")
    os.mkfifo(source / "pipe")
    (source / "out").mkdir()
    copy_sources(source, tmp_path / "copy", skip={source / "out"})
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert copied == {"package.json", "main.ts", "lib/a.json", "shared/b.ts"}
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))
    assert not (tmp_path / "copy" / "out").exists()


def test_a_circle_of_links_is_an_error_and_not_endless(tmp_path: Path) -> None:
    source = workflow(tmp_path / "flow", {}, "main.ts")
    (source / "one").symlink_to(source)
    (source / "two").symlink_to(source)
    with pytest.raises(ProjectError, match=r"Too many levels|too much"):
        copy_sources(source, tmp_path / "copy", skip=())


@pytest.mark.parametrize("limit", ["MAX_ENTRIES", "MAX_BYTES"])
def test_more_than_sources_are_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    source = workflow(tmp_path / "flow", {}, "main.ts", "a.ts", "b.ts")
    monkeypatch.setattr(staging, limit, 3)
    with pytest.raises(ProjectError, match="too much to be its source"):
        copy_sources(source, tmp_path / "copy", skip=())

"""The demonstration notices what it is there to notice: with one wall taken out of the code, it ends with 1.

Each test runs a copy of the sources, in an environment whose search path begins with them. The copy without a change
shows that it is the change that makes the difference.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
import subprocess
import sysconfig
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.guests, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
MEMBERS = [
    path.parent.relative_to(ROOT) for place in (".", "plugins") for path in (ROOT / place).glob("*/pyproject.toml")
]
# Longer than the demonstration's own deadlines together.
SECONDS = 280

SCRIPT = """\
#!{python}
import sys
from {module} import {name}
sys.exit({name}())
"""


class Clone:
    """A copy of the repository, and an environment that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.folder.mkdir()
        for member in MEMBERS:
            shutil.copytree(
                ROOT / member / "src", self.folder / member / "src", ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copytree(ROOT / "examples", self.folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
        shutil.copy(ROOT / "plugins.yaml", self.folder)
        # Binaries are kept by the digest of their sources, so copies may share them.
        (ROOT / ".build" / "tests" / "clones").mkdir(parents=True, exist_ok=True)
        (self.folder / ".build").symlink_to(ROOT / ".build" / "tests" / "clones")
        self.bin = self._environment(folder / "venv")

    def _environment(self, place: Path) -> Path:
        venv.EnvBuilder(symlinks=True).create(place)
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))
        # What stands first in this file comes first on the search path: the copies, then everything that is installed.
        # The .pth files of what is installed are not read there, so the repository itself is nowhere on it.
        sources = [str(self.folder / member / "src") for member in MEMBERS]
        (site / "clone.pth").write_text("\n".join([*sources, sysconfig.get_path("purelib")]) + "\n")
        for name, target in console_scripts().items():
            module, _, function = target.partition(":")
            script = place / "bin" / name
            script.write_text(SCRIPT.format(python=place / "bin" / "python", module=module, name=function))
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return place / "bin"

    def source(self, path: str) -> Path:
        """Return a source file, as it is named in the repository."""
        return self.folder / path

    def demo(self, runtime_dir: Path) -> tuple[int, dict[str, Any], str]:
        """Run the demonstration; return its exit code, its object, and what it said."""
        done = subprocess.run(
            [self.bin / "innkeeper", "demo", "-o", "json"],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(runtime_dir),
                "TMPDIR": str(runtime_dir),
                "LANG": "C.UTF-8",
                "INNKEEPER_BUILD_DIR": str(ROOT / ".build" / "tests" / "build"),
                **{k: v for k, v in os.environ.items() if k.startswith(("NODE_EXTRA", "SSL_", "npm_config_"))},
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr


def console_scripts() -> dict[str, str]:
    """Return the commands of this repository's distributions."""
    return {
        point.name: point.value
        for distribution in distributions()
        if str(distribution.metadata["Name"]).startswith("innkeeper")
        for point in distribution.entry_points
        if point.group == "console_scripts"
    }


def replace(path: Path, node: ast.stmt, text: str) -> None:
    """Put other lines in the place of a statement, as deep as it stands."""
    lines = path.read_text().splitlines()
    indent = " " * node.col_offset
    assert node.end_lineno is not None
    lines[node.lineno - 1 : node.end_lineno] = [indent + line for line in text.splitlines()]
    path.write_text("\n".join(lines) + "\n")
    compile(path.read_text(), str(path), "exec")


def function(path: Path, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """Return the one function of this name."""
    (found,) = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    )
    return found


def body_of(path: Path, name: str, text: str) -> None:
    """Give a function another body."""
    first, *rest = function(path, name).body
    for node in reversed(rest):
        replace(path, node, "pass")
    replace(path, first, text)


def take_out_the_visibility_filter(clone: Clone) -> None:
    body_of(clone.source("host/src/innkeeper/capabilities/registry.py"), "_permits", "return True")


def take_out_the_hash_check(clone: Clone) -> None:
    path = clone.source("plugins/confidential_workflows/src/innkeeper_confidential_workflows/enclave/binaries.py")
    (check,) = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.If) and "compare_digest" in ast.unparse(node.test)
    )
    replace(path, check, "pass")


def take_out_the_challenge_check(clone: Clone) -> None:
    path = clone.source("plugins/confidential_workflows/src/innkeeper_confidential_workflows/protocol/challenges.py")
    take = function(path, "take")
    (consuming,) = (node for node in ast.walk(take) if isinstance(node, ast.Assign) and ".pop(" in ast.unparse(node))
    replace(path, consuming, "live = self._live.get(id_)")
    (marking,) = (
        node
        for node in ast.walk(function(path, "take"))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self._used[id_]"
    )
    replace(path, marking, "pass")


def take_out_the_reaper(clone: Clone) -> None:
    body_of(clone.source("host/src/innkeeper/loop/reaping.py"), "reap", "return Reaped((), ())")


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    if shutil.which("node") is None:
        pytest.skip("Node is not installed: official guests cannot be built")
    yield Clone(tmp_path)
    # A hundred megabytes of links and copies that nobody looks at again.
    shutil.rmtree(tmp_path / "venv")


def test_a_copy_without_a_change_holds(clone: Clone, runtime_dir: Path) -> None:
    code, shown, said = clone.demo(runtime_dir)
    assert (code, shown["ok"]) == (0, True), said


@pytest.mark.parametrize(
    ("sabotage", "complaint"),
    [
        (take_out_the_visibility_filter, "trespass: "),
        (take_out_the_hash_check, "crash: a workflow ran whose stored binary had been replaced"),
        (
            take_out_the_challenge_check,
            "replay: the verifier answered to the same document once more with ok, not with replayed",
        ),
        (take_out_the_reaper, "crash: "),
    ],
    ids=["registry", "hash", "challenge", "reaper"],
)
def test_a_copy_without_one_wall_does_not(
    clone: Clone, runtime_dir: Path, sabotage: Callable[[Clone], None], complaint: str
) -> None:
    sabotage(clone)
    code, shown, said = clone.demo(runtime_dir)
    assert (code, shown["ok"]) == (1, False), said
    assert any(line.startswith(complaint) for line in said.splitlines()), said
    # Whatever was found, nothing of it is left running or lying about.
    assert list(runtime_dir.glob("ik-*")) == []

"""Every command in the README and in docs/ runs, and what they link to exists.

A fenced block marked ``sh`` is run as one script, in a folder where the checkout's parts are linked. A block marked
with a language and a path is written to that path first, so that a page can build what it talks of. ``make`` targets
are only looked up: running the tests from the tests would not end.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
PARTS = (".venv", "Makefile", "proto.mk", "plugins.yaml", "examples", "bench", "requirements", "sdk", "host", "plugins")


def blocks(page: Path) -> list[tuple[str, str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.guests
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in PAGES if "```sh\n" in page.read_text()], ids=lambda page: page.name)
def test_commands_run(page: Path, tmp_path: Path, runtime_dir: Path) -> None:
    work = tmp_path / "checkout"
    work.mkdir()
    for part in PARTS:
        (work / part).symlink_to(ROOT / part)
    script = []
    for language, path, body in blocks(page):
        if language == "sh":
            script += body.splitlines()
        elif path:
            target = work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(body, encoding="utf-8")
    made = [line for line in script if line.startswith("make ")]
    for line in made:
        subprocess.run(["make", "-n", *line.split()[1:]], cwd=work, check=True, capture_output=True)
    home = tmp_path / "home"
    home.mkdir()
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("INNKEEPER_", "XDG_", "PYTHON"))},
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime_dir),
        "INNKEEPER_BUILD_DIR": str(ROOT / ".build" / "tests" / "build"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(line for line in script if line not in made)],
        cwd=work,
        env=environ,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

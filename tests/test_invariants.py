"""What must stay true of the house, as far as its files show it (the behaviour has tests of its own)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOREIGN = re.compile(r"wasm|javy|enclave|nitro|attest|\bcron|http.?action", re.IGNORECASE)
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")


def _python_files(*folders: str) -> list[Path]:
    files = [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py*"))
        if path.suffix in (".py", ".pyi") and not GENERATED.search(path.name)
    ]
    assert files
    return files


def test_host_and_sdk_know_no_provider_and_no_kind_of_workflow() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _python_files("host/src", "sdk/src")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("word", ["WASM", "a javy", "Enclave", "nitro", "attestation", "the cron", "http-action"])
def test_the_pattern_for_foreign_words_finds_them(word: str) -> None:
    assert FOREIGN.search(word)


def test_imports_go_only_where_the_house_plan_lets_them() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["sdk", "host", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("plugins/*"))])
def test_every_distribution_is_typed_and_has_the_licence(package: str) -> None:
    folder = ROOT / package
    assert list(folder.glob("src/*/py.typed"))
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_lock_files_name_no_index_host_and_no_path() -> None:
    for path in [*(ROOT / "requirements").glob("*.txt"), *ROOT.glob("examples/*/package-lock.json")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|file://|--index-url|--find-links|/root/|/home/", text), path

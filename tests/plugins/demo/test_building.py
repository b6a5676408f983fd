"""Examples are built once for what they are, and a build that fails says what it said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from innkeeper_demo import building
from innkeeper_demo.building import build_examples
from innkeeper_demo.errors import StepError
from innkeeper_demo.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "examples" / "clock"
    folder.mkdir(parents=True)
    (folder / "main.ts").write_text("export async function main() {}")
    return Repository(tmp_path, ())


def test_what_was_built_before_is_not_built_again(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(repository: Repository, missing: dict[str, Path], *_: object) -> None:
        for name, binary in missing.items():
            binary.write_bytes(b"built " + (repository.example(name) / "main.ts").read_bytes()[:6])

    monkeypatch.setattr(building, "_build", build)
    said: list[str] = []
    assert build_examples(repository, ["clock"], environ={}, say=said.append) == {"clock": b"built export"}
    monkeypatch.setattr(building, "_build", None)
    assert build_examples(repository, ["clock"], environ={}, say=said.append) == {"clock": b"built export"}
    assert said[-1] == "clock (built before)"


def test_what_has_changed_is_built_again(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def build(_: Repository, missing: dict[str, Path], *__: object) -> None:
        for binary in missing.values():
            binary.write_bytes(b"built")
            built.append(binary)

    monkeypatch.setattr(building, "_build", build)
    build_examples(repository, ["clock"], environ={}, say=lambda _: None)
    (repository.example("clock") / "config.json").write_text("{}")
    build_examples(repository, ["clock"], environ={}, say=lambda _: None)
    assert len(set(built)) == 2


def test_a_build_that_fails_is_told_with_its_own_words(repository: Repository) -> None:
    with pytest.raises(StepError, match=r"(?s)the example clock cannot be built.*package\.json"):
        build_examples(repository, ["clock"], environ=os.environ, say=lambda _: None)
    assert list((repository.root / ".build" / "demo").glob("*.wasm")) == []

"""Where binaries are written, in which form, and that nothing half-written is left."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import brotli
import pytest

from innkeeper_wasm.build.errors import OutputError
from innkeeper_wasm.build.output import prepare_output

BINARY = b"\0asm\x01\0\0\0" + bytes(1000)


def test_the_suffix_decides_the_form(tmp_path: Path) -> None:
    assert prepare_output(tmp_path / "a.wasm").write(BINARY) == BINARY
    compressed = prepare_output(tmp_path / "a.wasm.br").write(BINARY)
    assert brotli.decompress(compressed) == BINARY
    assert prepare_output(tmp_path / "a.wasm.br.b64").write(BINARY) == base64.b64encode(compressed)
    assert (tmp_path / "a.wasm").read_bytes() == BINARY
    assert (tmp_path / "a.wasm.br").read_bytes() == compressed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wasm", "a.wasm.br", "a.wasm.br.b64"]


@pytest.mark.parametrize("name", ["a.wat", "a", "a.br", "a.wasm.gz", ".wasm", "wasm", "a.WASM"])
def test_a_name_that_says_no_form_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="does not say its form"):
        prepare_output(tmp_path / name)


def test_directories_on_the_way_are_made(tmp_path: Path) -> None:
    prepare_output(tmp_path / "new" / "deep" / "a.wasm").write(BINARY)
    assert (tmp_path / "new" / "deep" / "a.wasm").read_bytes() == BINARY


def test_a_file_is_readable_as_the_user_wants_new_files_to_be(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        prepare_output(tmp_path / "a.wasm").write(BINARY)
    finally:
        os.umask(before)
    assert (tmp_path / "a.wasm").stat().st_mode & 0o777 == 0o640


def test_a_place_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_output(tmp_path / "file" / "a.wasm")


def test_a_place_that_takes_no_files_is_refused_before_the_work() -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_output(Path("/proc/self/a.wasm"))


def test_only_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").mkdir()
    with pytest.raises(OutputError, match="is no file"):
        prepare_output(tmp_path / "a.wasm")
    os.mkfifo(tmp_path / "b.wasm")
    with pytest.raises(OutputError, match="is no file"):
        prepare_output(tmp_path / "b.wasm")


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wasm").symlink_to(tmp_path / "b.wasm")
    (tmp_path / "b.wasm").symlink_to(tmp_path / "a.wasm")
    with pytest.raises(OutputError, match="cannot be written"):
        prepare_output(tmp_path / "a.wasm")


def test_a_link_is_kept_and_its_file_written(tmp_path: Path) -> None:
    (tmp_path / "real.wasm").write_bytes(b"old")
    (tmp_path / "link.wasm").symlink_to("real.wasm")
    prepare_output(tmp_path / "link.wasm").write(BINARY)
    assert (tmp_path / "link.wasm").is_symlink()
    assert (tmp_path / "real.wasm").read_bytes() == BINARY


def test_a_file_that_cannot_be_replaced_is_what_it_was(tmp_path: Path) -> None:
    output = prepare_output(tmp_path / "sub" / "a.wasm")
    (tmp_path / "sub" / "a.wasm").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        output.write(BINARY)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.wasm"]

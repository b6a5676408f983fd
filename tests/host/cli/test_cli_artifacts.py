"""A workflow's files on their way to a host."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from innkeeper.cli.artifacts import read_artifacts, read_text_or_file
from innkeeper_sdk.errors import LimitExceededError
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

HOST = pb.Host(max_file_bytes=10)


def test_files_are_sent_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\0123456789")
    (tmp_path / "c.json").write_bytes(b"{}")
    sent = read_artifacts(HOST, tmp_path / "x.bin", config=tmp_path / "c.json", attributes='{"a": 1}')
    assert (sent.binary, sent.file_name, sent.config) == (b"\0123456789", "x.bin", b"{}")
    assert sent.attributes == b'{"a": 1}'


def test_without_a_configuration_none_is_sent(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    assert read_artifacts(HOST, tmp_path / "x", config=None, attributes="").config == b""


@pytest.mark.parametrize("which", ["binary", "configuration"])
def test_a_file_that_is_too_large_is_not_sent(tmp_path: Path, which: str) -> None:
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(b"x" * 11)
    file, config = ("large", "small") if which == "binary" else ("small", "large")
    with pytest.raises(LimitExceededError, match=f"the {which} is larger.*at most 10 bytes, found 11 bytes") as caught:
        read_artifacts(HOST, tmp_path / file, config=tmp_path / config, attributes="")
    assert caught.value.path == str(tmp_path / "large")


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(LimitExceededError):
        read_artifacts(HOST, Path("/dev/zero"), config=None, attributes="")


def test_attributes_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"é": true}', encoding="utf-8")
    assert read_text_or_file(f"@{tmp_path / 'a.json'}", "--attributes") == '{"é": true}'
    assert read_text_or_file("{}", "--attributes") == "{}"


@pytest.mark.parametrize(("content", "reason"), [(b"\xff", "not UTF-8"), (None, "No such file")])
def test_a_file_that_is_none_is_a_wrong_argument(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(click.BadParameter, match=reason):
        read_text_or_file(f"@{tmp_path / 'a'}", "--attributes")

"""A workflow's files on their way to a host.

Rules of this module:

1. No more of a file is read than the host says it takes: nobody's memory fills with a wrong file.
2. What the files mean is the host's to judge; nothing is decoded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from innkeeper_sdk.errors import LimitExceededError
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["read_artifacts", "read_text_or_file"]

# The host takes at most 8 KiB of attributes; a file that is larger by far is another one.
_TEXT_BYTES: Final = 1 << 20


def read_artifacts(host: pb.Host, file: Path, *, config: Path | None, attributes: str) -> pb.WorkflowArtifacts:
    """Read a workflow's files.

    Args:
        host: The host that they go to.
        file: The binary.
        config: The configuration, if there is one.
        attributes: Their JSON; empty if none were given.

    Returns:
        The artifacts, without name, owner and tag.

    Raises:
        LimitExceededError: A file is larger than the host takes.
    """
    return pb.WorkflowArtifacts(
        binary=_read(file, "the binary", host.max_file_bytes),
        file_name=file.name,
        config=_read(config, "the configuration", host.max_file_bytes) if config else b"",
        attributes=attributes.encode(),
    )


def read_text_or_file(given: str | None, option: str) -> str:
    """Return an option's text, or that of the file it names after ``@``; empty if the option was not given.

    Raises:
        click.BadParameter: The file cannot be read, or what was given is empty: a variable that is not set, or a file
            that was cut off, is not taken for an option that was left out.
    """
    if given is None:
        return ""
    text = _text_of(Path(given[1:]), option) if given.startswith("@") else given
    if not text.strip():
        raise click.BadParameter("it is empty; leave the option out to have its default", param_hint=option)
    return text


def _text_of(path: Path, option: str) -> str:
    try:
        return _read(path, "the file", _TEXT_BYTES).decode()
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is not UTF-8", param_hint=option) from None


def _read(path: Path, what: str, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > limit:
        size = path.stat().st_size
        raise LimitExceededError(
            f"{what} is larger than this host takes",
            path=str(path),
            expected=f"at most {limit} bytes",
            actual=f"{size} bytes" if size > limit else "more",
        )
    return data

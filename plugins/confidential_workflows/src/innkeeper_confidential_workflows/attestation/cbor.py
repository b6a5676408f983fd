"""CBOR as it is accepted from outside.

Rules of this module:

1. The input is one data item and nothing behind it; maps have no key twice; containers nest at most four deep, not
   counting one with nothing in it.
2. No tag is accepted, known or unknown: by default the decoder compiles regular expressions and builds cyclic lists out
   of tagged items, and it forgets the tags that it knows.
3. Whatever the decoder raises for hostile input comes out as :class:`NotStrictError`.
4. Types of what is decoded are compared with ``type(x) is``: True is no 1 here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

from cbor2 import CBORDecoder

__all__ = ["MAX_DEPTH", "NotStrictError", "decode"]

# A document needs 2: its map, and the PCRs or certificates in it. Keys that are not known may hold more.
MAX_DEPTH: Final = 4

# How much of the decoder's own words a message repeats, in characters: they may quote the input.
_SHOWN: Final = 100


class NotStrictError(ValueError):
    """Raised when bytes are not one item of the CBOR that is accepted."""


class _TagError(Exception):
    pass


class _NoTags(Mapping[int, Callable[[Any, bool], NoReturn]]):
    """The decoders for tags: for each number one that refuses it."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], NoReturn]:
        def refuse(_value: Any, _immutable: bool) -> NoReturn:
            raise _TagError

        return refuse

    def __contains__(self, tag: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 1


def _refuse_tag(_tag: Any, _immutable: bool) -> NoReturn:
    raise _TagError


def decode(data: bytes, *, max_depth: int = MAX_DEPTH, indefinite: bool = False) -> Any:
    """Return the one item that some bytes hold.

    Args:
        data: The whole input; the caller has limited its length.
        max_depth: How deep arrays and maps may nest.
        indefinite: Accept containers and strings without a length in front.

    Raises:
        NotStrictError: The bytes are anything else.
    """
    stream = io.BytesIO(data)
    try:
        value = CBORDecoder(
            stream,
            semantic_decoders=_NoTags(),
            tag_hook=_refuse_tag,
            read_size=1,  # else the decoder reads ahead, and the position says nothing
            max_depth=max_depth,
            allow_indefinite=indefinite,
            allow_duplicate_keys=False,
        ).decode()
    except Exception as error:  # the decoder's own, and RecursionError, MemoryError, OverflowError, …
        if isinstance(error.__cause__, _TagError):
            raise NotStrictError("it holds a tag, and no tag is accepted") from error
        raise NotStrictError(f"it is no CBOR that is accepted: {str(error)[:_SHOWN]!r}") from error
    if (rest := len(data) - stream.tell()) != 0:
        raise NotStrictError(f"{rest} bytes follow what should be all")
    return value

"""What a YAML document says, with where each value of it stands.

Rules of this module:

1. A document is a tree of nodes; every node, and every key of a mapping, has an origin.
2. A fault is a record, so that all faults of a document can be told together; nothing here raises.

``innkeeper_sdk.reading`` makes documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from attrs import frozen

__all__ = [
    "Document",
    "Fault",
    "ListNode",
    "MapNode",
    "Node",
    "Origin",
    "ScalarNode",
    "kind_of",
    "locate",
    "near_miss",
    "plain",
    "spell",
]


@frozen
class Origin:
    """Where a value stands.

    Attributes:
        file: A file; or a variable or a flag, which have no lines.
        line: From 1; 0 for the whole.
        column: From 1; 0 for the whole.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Return ``file:line:column``, which editors and terminals understand, or the name alone."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@frozen
class Fault:
    """One thing that is wrong with a document.

    Attributes:
        origin: Where.
        message: What is wrong.
        path: The value concerned, such as ``plugins.clock[0].mode``.
        expected: What the rule asks for.
        actual: What was found.
        hint: What to do about it.
    """

    origin: Origin
    message: str
    path: str = ""
    expected: str | None = None
    actual: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        """Return the fault as one sentence that begins with its origin."""
        tail = [f"expected {self.expected}"] if self.expected else []
        tail += [f"found {self.actual}"] if self.actual else []
        text = f"{self.origin}: {self.path}: {self.message}" if self.path else f"{self.origin}: {self.message}"
        text += f" ({', '.join(tail)})" if tail else ""
        return f"{text}; {self.hint}" if self.hint else text


@frozen(eq=False)
class ScalarNode:
    """A scalar: its value, the text it was written as, and whether that was without quotes and tag."""

    origin: Origin
    text: str
    value: bool | int | float | str | None
    bare: bool = False
    size: int = 1
    height: int = 1


@frozen(eq=False)
class ListNode:
    """A list; ``size`` and ``height`` count with every alias expanded."""

    origin: Origin
    items: tuple[Node, ...]
    size: int
    height: int


@frozen(eq=False)
class MapNode:
    """A mapping, in its order; ``keys`` has where each key stands."""

    origin: Origin
    values: Mapping[str, Node]
    keys: Mapping[str, Origin]
    size: int
    height: int


Node: TypeAlias = ScalarNode | ListNode | MapNode


@frozen
class Document:
    """What was read: the root, None if there is nothing or nothing usable, and the faults."""

    root: Node | None
    faults: tuple[Fault, ...]


def plain(node: Node | None) -> Any:
    """Return what a node stands for, as JSON-able values."""
    if isinstance(node, MapNode):
        return {key: plain(value) for key, value in node.values.items()}
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return None if node is None else node.value


def kind_of(node: Node) -> str:
    """Return what a person calls a node: ``a mapping``, ``a list``, ``nothing``, or its text in quotes."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    return "nothing" if node.value is None else repr(node.text)


def locate(root: Node, path: Iterable[str | int]) -> Origin:
    """Return where the value at a path stands, or the nearest part of the path that exists.

    Args:
        root: Where the path begins.
        path: Keys and indices. The origin of a value in a mapping is that of its key.
    """
    node, origin = root, root.origin
    for step in path:
        if isinstance(node, MapNode) and isinstance(step, str) and step in node.values:
            origin, node = node.keys[step], node.values[step]
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            origin = node.origin
        else:
            break
    return origin


def spell(path: Iterable[str | int]) -> str:
    """Return a path as a person writes it: ``plugins.clock[0].mode``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def near_miss(word: str, words: Iterable[str]) -> str | None:
    """Return the one of some words that a mistyped one was probably meant to be, or None."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a faulty document pays for it

    by_folded = {candidate.casefold(): candidate for candidate in words}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None

"""Reading the operator's files: every fault at once, each with where it stands.

Rules of this module:

1. A reader takes nodes and gives values; what does not fit becomes a fault, and the reading goes on.
2. Text fields take a scalar's source text, as Go's reader does: a commit hash of digits is no number.
3. Nothing here knows what a file is about; see ``entries`` and ``settings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from innkeeper_sdk.documents import Fault, ListNode, MapNode, Node, Origin, ScalarNode, kind_of, near_miss
from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.reading import MAX_BYTES, decode, parse_document

__all__ = ["FaultyConfigError", "Reader", "Scalar", "is_null", "read_file", "read_text"]

_T = TypeVar("_T")

Scalar: TypeAlias = bool | int | float | str

# Go's reader of YAML takes the words of YAML 1.1 too where a switch is wanted.
_SWITCHES: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}


class FaultyConfigError(ConfigError):
    """Raised when the operator's files have faults.

    Args:
        faults: All of them, in the order in which they stand.
        hint: What to do next.
    """

    def __init__(self, faults: Sequence[Fault], *, hint: str | None = None) -> None:
        count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"the configuration has {count}:{lines}", hint=hint)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        """Return one line per fault."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def read_file(path: Path) -> tuple[Node | None, tuple[Fault, ...]]:
    """Read a YAML file.

    Args:
        path: The file.

    Returns:
        Its root, None if there is nothing usable, and its faults.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    text = decode(content, file=str(path))
    return (None, (text,)) if isinstance(text, Fault) else read_text(text, file=str(path))


def read_text(text: str, *, file: str) -> tuple[Node | None, tuple[Fault, ...]]:
    """Read YAML that is not in a file.

    Args:
        text: The YAML.
        file: What origins call it.
    """
    document = parse_document(text, file=file)
    return document.root, document.faults


def is_null(node: Node | None) -> bool:
    """Return whether a value is absent or empty: ``key:`` with nothing behind it."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)


class Reader:
    """Turns nodes into values and collects faults."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, origin: Origin, path: str, message: str, **fields: str | None) -> None:
        """Note a fault; ``fields`` are those of ``Fault``."""
        self.faults.append(Fault(origin, message, path, **fields))

    def misfit(self, node: Node, path: str, expected: str) -> None:
        """Note that a value is not what was expected."""
        self.fault(node.origin, path, "not what belongs here", expected=expected, actual=kind_of(node))

    def mapping(self, node: Node, path: str, *, known: Iterable[str] | None = None) -> Mapping[str, Node]:
        """Return a mapping's values, without the keys that are not known.

        Args:
            node: The value.
            path: Its path, for faults.
            known: The keys that may be there; None for any.
        """
        if not isinstance(node, MapNode):
            self.misfit(node, path, "a mapping")
            return {}
        if known is None:
            return node.values
        names = list(known)
        for key in node.values:
            if key not in names:
                close = near_miss(key, names)
                hint = f"did you mean {close}?" if close else f"known are {', '.join(names)}"
                self.fault(node.keys[key], f"{path}.{key}".removeprefix("."), "unknown key", hint=hint)
        return {key: value for key, value in node.values.items() if key in names}

    def items(self, node: Node, path: str, expected: str = "a list") -> tuple[Node, ...]:
        """Return a list's items."""
        if isinstance(node, ListNode):
            return node.items
        self.misfit(node, path, expected)
        return ()

    def text(self, node: Node, path: str, expected: str = "text") -> str | None:
        """Return a scalar's source text, None if it is not one or empty."""
        if isinstance(node, ScalarNode) and node.text.strip() and not is_null(node):
            return node.text
        self.misfit(node, path, expected)
        return None

    def texts(self, node: Node, path: str, expected: str = "a list of texts") -> tuple[str, ...]:
        """Return a list of texts."""
        found = [self.text(item, f"{path}[{i}]") for i, item in enumerate(self.items(node, path, expected))]
        return tuple(text for text in found if text is not None)

    def switch(self, node: Node, path: str) -> bool | None:
        """Return a switch's position."""
        if isinstance(node, ScalarNode) and node.bare and node.text.lower() in _SWITCHES:
            return _SWITCHES[node.text.lower()]
        self.misfit(node, path, "true or false")
        return None

    def word(self, node: Node, path: str, words: Mapping[str, _T]) -> _T | None:
        """Return what one of some words stands for."""
        if isinstance(node, ScalarNode) and node.text in words:
            return words[node.text]
        self.misfit(node, path, " or ".join(words))
        return None

    def scalars(self, node: Node, path: str) -> Mapping[str, tuple[Scalar, Origin]]:
        """Return a mapping of scalars with their origins; nested mappings stand for dotted names."""
        flat: dict[str, tuple[Scalar, Origin]] = {}
        self._flatten(node, path, "", flat)
        return flat

    def _flatten(self, node: Node, path: str, prefix: str, flat: dict[str, tuple[Scalar, Origin]]) -> None:
        if not isinstance(node, MapNode):
            self.misfit(node, path, "a mapping")
            return
        for key, value in node.values.items():
            name, where = f"{prefix}{key}", f"{path}.{key}"
            if isinstance(value, MapNode):
                self._flatten(value, where, f"{name}.", flat)
            elif not isinstance(value, ScalarNode) or value.value is None:
                self.misfit(value, where, "a number, a text or a switch")
            elif name in flat:
                self.fault(node.keys[key], where, "given twice, once with dots and once nested")
            else:
                flat[name] = (value.value, node.keys[key])

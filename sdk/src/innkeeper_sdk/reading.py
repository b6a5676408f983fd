"""Reading YAML so that every value knows where it stands.

Rules of this module:

1. Nothing of a document is trusted: its size, its depth and its number of values *after* aliases are expanded are
   limited, and no tag makes an object. Documents are built from parser events; PyYAML's composer recurses in C, so
   that a few hundred kilobytes of ``[`` would end the process.
2. Values are those of JSON, read as YAML 1.2 reads them: ``yes``, ``on``, ``012``, ``1:30`` and dates stay text. Every
   scalar keeps its source text too, because a field that holds text takes ``1234567`` or ``12e4567`` as they stand (the
   reference's files have commit hashes there).
3. Keys are text, and a key given twice is a fault. ``<<`` merges, as in YAML 1.1.
4. Faults are collected with their origin; only what makes the rest meaningless (syntax, limits) ends the reading.
"""

from __future__ import annotations

import math
import re
from typing import Final, cast

import yaml
from attrs import define, field

from innkeeper_sdk.documents import Document, Fault, ListNode, MapNode, Node, Origin, ScalarNode, kind_of

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "decode", "parse_document"]

# Generous for files that people write, and small enough that reading one is never felt.
MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = "<<"
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TYPES: Final = {"null": type(None), "bool": bool, "int": int, "float": float}
_DECIMAL: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
# Longer texts of digits are names, not numbers; Python refuses to read those of more than 4300 digits.
_NUMBER_LENGTH: Final = 64


def parse_document(text: str, *, file: str) -> Document:
    """Read one YAML document.

    Args:
        text: The document, at most 1 MiB in UTF-8.
        file: Its name, for origins.

    Returns:
        The document with its faults. A document of nothing but comments has no root and no faults.
    """
    composer = _Composer(file)
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        fault = Fault(Origin(file), "the file is too large", expected=f"at most {MAX_BYTES} bytes")
        return Document(None, (fault,))
    try:
        root = composer.compose(text)
    except _UnusableError as error:
        return Document(None, (*composer.faults, error.fault))
    except yaml.MarkedYAMLError as error:
        return Document(None, (*composer.faults, _syntax(error, text, file)))
    except UnicodeEncodeError as error:
        return Document(None, (_character(ord(text[error.start]), text, file),))
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character)
        return Document(None, (*composer.faults, _character(code, text, file)))
    return Document(root, tuple(composer.faults))


def decode(content: bytes, *, file: str) -> str | Fault:
    """Return a file's text, or why it is none.

    Args:
        content: The file's bytes: UTF-8, with or without a byte order mark.
        file: Its name, for the origin.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        origin = Origin(file, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        return Fault(origin, "the file is not UTF-8", actual=f"byte 0x{content[error.start]:02x}")


class _UnusableError(Exception):
    """The document cannot be read on."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@define(eq=False)
class _Frame:
    """A list or mapping that is still open: of a mapping, keys and values take turns."""

    origin: Origin
    anchor: str | None
    mapping: bool
    children: list[Node] = field(factory=list)
    size: int = 1
    height: int = 1


class _Composer:
    """Builds nodes from events, without recursion."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}
        self._root: Node | None = None
        self._documents = 0
        self.faults: list[Fault] = []

    def compose(self, text: str) -> Node | None:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.ScalarEvent):
                self._take_scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close()
            elif isinstance(event, yaml.AliasEvent):
                self._attach(self._alias(event))
            elif isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise self._unusable(event, "a second document begins", expected="one document per file")
        return self._root

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        node = self._scalar(event)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._attach(node)

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}map" if mapping else f"{_TAG}seq"):
            self.faults.append(Fault(self._origin(event), f"the tag {_shown(event.tag)} does not fit here"))
        if len(self._stack) >= MAX_DEPTH:
            raise self._unusable(event, "the document is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
        if event.anchor:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(self._origin(event), event.anchor, mapping))

    def _close(self) -> None:
        frame = self._stack.pop()
        node: Node
        if frame.mapping:
            node = self._mapping(frame)
        else:
            node = ListNode(frame.origin, tuple(frame.children), frame.size, frame.height)
        if frame.anchor:
            self._anchors[frame.anchor] = node
        self._attach(node)

    def _attach(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        frame.children.append(node)
        frame.size += node.size
        frame.height = max(frame.height, node.height + 1)
        if frame.size > MAX_VALUES:
            raise _UnusableError(
                Fault(node.origin, "the document has too many values", expected=f"at most {MAX_VALUES}")
            )
        if len(self._stack) + node.height > MAX_DEPTH + 1:
            raise _UnusableError(
                Fault(node.origin, "the document is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
            )

    def _alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise self._unusable(event, f"the alias *{event.anchor} has no anchor before it")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._unusable(event, f"the alias *{event.anchor} contains itself")
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> ScalarNode:
        origin, text, tag = self._origin(event), event.value, event.tag
        if event.implicit[0] and tag != "!":
            return ScalarNode(origin, text, _resolve(text), bare=True)
        if tag in (None, "!", f"{_TAG}str"):
            return ScalarNode(origin, text, text)
        value = _resolve(text)
        if tag == f"{_TAG}float" and type(value) is int:
            value = float(value)
        wanted = _TYPES.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
        if type(value) is not wanted:
            self.faults.append(Fault(origin, f"the tag {_shown(tag)} does not fit here", actual=repr(text)))
        return ScalarNode(origin, text, value)

    def _mapping(self, frame: _Frame) -> MapNode:
        values: dict[str, Node] = {}
        keys: dict[str, Origin] = {}
        merged: list[MapNode] = []
        for key, value in zip(frame.children[::2], frame.children[1::2], strict=True):
            if not isinstance(key, ScalarNode):
                self.faults.append(Fault(key.origin, "a key must be text", actual=kind_of(key)))
            elif key.bare and key.text == _MERGE:
                merged += self._merged(value)
            elif key.text in values:
                message = f"the key {key.text!r} is given twice, first on line {keys[key.text].line}"
                self.faults.append(Fault(key.origin, message))
            else:
                values[key.text], keys[key.text] = value, key.origin
        for source in merged:
            for name, value in source.values.items():
                if name not in values:
                    values[name], keys[name] = value, source.keys[name]
        return MapNode(frame.origin, values, keys, frame.size, frame.height)

    def _merged(self, value: Node) -> list[MapNode]:
        sources = value.items if isinstance(value, ListNode) else (value,)
        self.faults += [
            Fault(value.origin, "<< merges mappings", expected="a mapping or a list of them", actual=kind_of(source))
            for source in sources
            if not isinstance(source, MapNode)
        ]
        return [source for source in sources if isinstance(source, MapNode)]

    def _origin(self, event: yaml.Event) -> Origin:
        mark = cast(yaml.Mark, event.start_mark)  # events of a parser always have one
        return Origin(self._file, mark.line + 1, mark.column + 1)

    def _unusable(self, event: yaml.Event, message: str, *, expected: str | None = None) -> _UnusableError:
        return _UnusableError(Fault(self._origin(event), message, expected=expected))


def _resolve(text: str) -> bool | int | float | str | None:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _NUMBER_LENGTH:
        return text
    if _DECIMAL.fullmatch(text) or _BASED.fullmatch(text):
        return int(text, 0)
    if ("." in text or "e" in text or "E" in text) and _FLOAT.fullmatch(text):
        number = float(text)
        # JSON has no infinity.
        return number if math.isfinite(number) else text
    return text


def _shown(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    origin = Origin(file, mark.line + 1, mark.column + 1) if mark else Origin(file)
    problem = error.problem or "the text cannot be parsed"
    context = f" {error.context}" if error.context else ""
    lines = text.split("\n")
    tab = origin.line <= len(lines) and "\t" in lines[origin.line - 1][: origin.column]
    hint = "indent with spaces: YAML takes no tabs" if tab else None
    return Fault(origin, f"this is not YAML: {problem}{context}", hint=hint)


def _character(code: int, text: str, file: str) -> Fault:
    # libyaml says where in bytes, the parser in Python in characters; both say which character it was.
    index = max(text.find(chr(code)), 0)
    origin = Origin(file, text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))
    return Fault(origin, "this is not YAML: a character that YAML does not have", actual=f"U+{code:04X}")

"""From a manifest's YAML to its record.

Rules of this module:

1. Nothing is converted: ``id: 12`` is no text, and a text is no list of its letters.
2. Every fault is told, with the key it concerns, where that stands, and what was probably meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import fields, has
from cattrs import Converter
from cattrs.cols import is_mapping, is_sequence, list_structure_factory, mapping_structure_factory
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from innkeeper_sdk.documents import Fault, Node, Origin, locate, near_miss, plain, spell
from innkeeper_sdk.errors import ManifestError
from innkeeper_sdk.manifest import Manifest
from innkeeper_sdk.manifest_rules import Problem, Steps, problems_of
from innkeeper_sdk.reading import MAX_BYTES, decode, parse_document

__all__ = ["read_document", "structure_manifest"]

_T = TypeVar("_T")
_NAMES: Final[Mapping[type, str]] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read_document(path: Path) -> tuple[Any, Node]:
    """Read a manifest's YAML.

    Args:
        path: The file.

    Returns:
        What it says, as JSON-able values, and its root.

    Raises:
        ManifestError: It is missing, unreadable, or not one YAML document.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"the manifest cannot be read: {error.strerror}", path=str(path)) from error
    text = decode(content, file=str(path))
    if isinstance(text, Fault):
        raise _error([str(text)], str(path), None)
    document = parse_document(text, file=str(path))
    if document.faults:
        raise _error([str(fault) for fault in document.faults], str(path), None)
    if document.root is None:
        raise ManifestError("the manifest is empty", path=str(path), expected="a mapping with id, title and sdk")
    return plain(document.root), document.root


def structure_manifest(document: object, *, path: str, root: Node | None) -> Manifest:
    """Turn a manifest's document into a record.

    Args:
        document: What the YAML says, as JSON-able values.
        path: The file, for errors.
        root: The document's root, for origins; None if it is not at hand.

    Returns:
        The manifest.

    Raises:
        ManifestError: It is not valid; the message lists every fault.
    """
    if not isinstance(document, Mapping):
        raise ManifestError("a manifest is a mapping", path=path, actual=type(document).__name__)
    identity = document.get("id")
    try:
        manifest = _converter().structure(document, Manifest)
    except (BaseValidationError, ForbiddenExtraKeysError) as error:
        problems = list(_problems(error, ()))
    else:
        problems = list(problems_of(manifest))
        if not problems:
            return manifest
    faults = sorted(
        (_fault(problem, document, path, root) for problem in problems), key=lambda f: (f.origin.line, f.origin.column)
    )
    # Without the root all of them stand nowhere in particular.
    texts = [str(fault) if root is not None else str(fault).removeprefix(f"{fault.origin}: ") for fault in faults]
    raise _error(texts, path, identity if isinstance(identity, str) else None)


@cache
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for scalar in (str, int, float, bool):
        converter.register_structure_hook(scalar, _exactly)
    converter.register_structure_hook(bool | int | float | str, _scalar)
    converter.register_structure_hook_func(lambda cls: cls is Any, lambda value, _: value)
    converter.register_structure_hook_func(_is_enum, _word)
    converter.register_structure_hook_factory(is_sequence, partial(_strict, list_structure_factory, list, "a list"))
    converter.register_structure_hook_factory(
        is_mapping, partial(_strict, mapping_structure_factory, Mapping, "a mapping")
    )
    converter.register_structure_hook_factory(has, partial(_strict, make_dict_structure_fn, Mapping, "a mapping"))
    return converter


def _exactly(value: object, cls: type[_T]) -> _T:
    if isinstance(value, cls) and not (cls is not bool and isinstance(value, bool)):
        return value
    raise TypeError(_NAMES.get(cls, cls.__name__))


def _scalar(value: object, _: object) -> bool | int | float | str:
    if isinstance(value, bool | int | float | str):
        return value
    raise TypeError("a number, a text or a switch")


def _is_enum(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, Enum)


def _word(value: object, cls: type[Enum]) -> Enum:
    for member in cls:
        if isinstance(value, str) and member.value == value:
            return member
    raise TypeError(f"one of {', '.join(member.value for member in cls)}")


def _strict(
    factory: Callable[[Any, Converter], Callable[[Any, Any], Any]],
    wanted: type,
    name: str,
    cls: Any,
    converter: Converter,
) -> Callable[[Any, Any], Any]:
    hook = factory(cls, converter)

    def structure(value: object, target: Any) -> Any:
        if not isinstance(value, wanted):
            raise TypeError(name)
        structured = hook(value, target)
        return tuple(structured) if wanted is list else structured

    return structure


def _problems(error: BaseException, path: Steps) -> Iterator[Problem]:
    if isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in fields(error.cl)]
        for key in sorted(error.extra_fields):
            close = near_miss(key, known)
            hint = f"did you mean {close}?" if close else f"known are {', '.join(known)}"
            yield Problem((*path, key), "unknown key", hint=hint)
    elif isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            step = _step(inner)
            yield from _problems(inner, path if step is None else (*path, step))
    elif isinstance(error, KeyError):
        yield Problem(path, "the key is missing")
    elif isinstance(error, TypeError):
        # The hooks above say what they expected.
        yield Problem(path, "not what belongs here", expected=str(error))
    else:
        raise error


def _step(error: BaseException) -> str | int | None:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            return note.index
        if isinstance(note, AttributeValidationNote):
            return note.name
    return None


def _fault(problem: Problem, document: object, path: str, root: Node | None) -> Fault:
    """Return a problem with its origin, and with what was found there if that is not in its message."""
    actual = problem.actual
    if actual is None and problem.expected is not None:
        actual = _shown(_value(document, problem.path))
    origin = Origin(path) if root is None else locate(root, problem.path)
    return Fault(origin, problem.message, spell(problem.path), problem.expected, actual, problem.hint)


def _value(document: object, path: Steps) -> object:
    value: Any = document
    for step in path:
        value = value[step]
    return value


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _error(texts: list[str], path: str, provider: str | None) -> ManifestError:
    count = "a fault" if len(texts) == 1 else f"{len(texts)} faults"
    # The file is in the message, so that the error does not say it twice.
    message = f"the manifest {path} has {count}: {'; '.join(texts)}"
    return ManifestError(message, path=path, provider=provider)

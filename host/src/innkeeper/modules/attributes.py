"""Attributes: the deployment metadata of a workflow, and what they bind it to.

Rules of this module:

1. Attributes are one strict JSON object in at most 8 KiB of UTF-8: no key twice at any depth, nothing behind it, no
   number that is none. No attributes are ``{}``; ``null`` and everything else that is no object is an error.
2. Every key is declared by an installed provider, enabled or not. An undeclared key is an error, never ignored: it may
   have been meant to protect the workflow.
3. A value that is not, to the letter, its declared default binds the whole workflow to the module type that declares
   the key. ``0`` is not ``false``: in doubt a workflow is bound.
4. Attributes that were accepted once, when a workflow was deployed, stay what they were: if a key's provider is gone,
   the workflow waits for it and is never run as if the key were not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

from attrs import field, frozen

from innkeeper_sdk.documents import near_miss, spell
from innkeeper_sdk.errors import ConflictError, UnavailableError, WorkflowError
from innkeeper_sdk.manifest import Attribute, Manifest
from innkeeper_sdk.schemas import apply_schema

__all__ = [
    "MAX_ATTRIBUTES",
    "AttributeDeclarations",
    "Attributes",
    "Binding",
    "DeclaredAttribute",
    "binding",
    "declare_attributes",
    "parse_attributes",
]

MAX_ATTRIBUTES: Final = 8 * 1024
# JSON of this size can be nested some thousand times; nothing that means anything is nested this deep.
_MAX_DEPTH: Final = 32


@frozen
class DeclaredAttribute:
    """A key, as a provider's manifest declares it.

    Attributes:
        provider_id: Whose manifest.
        attribute: What it says.
    """

    provider_id: str
    attribute: Attribute


@frozen
class AttributeDeclarations:
    """All declared keys.

    Attributes:
        keys: By key. One that two providers declare is refused to every workflow: nobody knows which of them is meant.
        errors: What is wrong with a provider's declarations, by its id: such a provider must not start.
    """

    keys: Mapping[str, DeclaredAttribute]
    errors: Mapping[str, ConflictError]


def _read_only(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))


@frozen
class Attributes:
    """Accepted attributes.

    Attributes:
        values: By key, as JSON values.
        text: Their canonical JSON: sorted keys, no spaces. Equal texts are equal attributes.
    """

    values: Mapping[str, Any] = field(converter=_read_only, eq=False, repr=False)
    text: str


@frozen
class Binding:
    """The module type that a workflow is bound to.

    Attributes:
        provider_id: Its provider.
        module: Its name.
        keys: The keys that bind it, sorted.
    """

    provider_id: str
    module: str
    keys: tuple[str, ...]


def declare_attributes(manifests: Iterable[Manifest]) -> AttributeDeclarations:
    """Gather the keys of every installed provider, disabled ones too.

    Args:
        manifests: In the order in which they take keys.
    """
    keys: dict[str, DeclaredAttribute] = {}
    errors: dict[str, ConflictError] = {}
    for manifest in manifests:
        for key, attribute in manifest.attributes.items():
            if key in keys:
                both = f"the providers {keys[key].provider_id} and {manifest.id} both declare"
                errors[manifest.id] = ConflictError(f"{both} the attribute {key}", hint="uninstall one of them")
                keys[key] = DeclaredAttribute(keys[key].provider_id, Attribute(refused=f"{both} it"))
            else:
                keys[key] = DeclaredAttribute(manifest.id, attribute)
    return AttributeDeclarations(keys, errors)


def parse_attributes(
    raw: bytes | str | None, declared: Mapping[str, DeclaredAttribute], *, stored: bool = False
) -> Attributes:
    """Read attributes.

    Args:
        raw: The JSON text; None or nothing at all is ``{}``.
        declared: The declared keys.
        stored: Whether they were accepted before, so that an undeclared key means that its provider is missing now.

    Raises:
        WorkflowError: They are not acceptable; the error names the key and what was expected.
        UnavailableError: They were stored, and a key's provider is missing: the workflow is deferred.
    """
    values = _parse(raw)
    undeclared = sorted(set(values) - set(declared))
    if undeclared:
        raise _undeclared(undeclared, declared, stored=stored)
    for key, value in values.items():
        _check_value(key, declared[key], value)
    return Attributes(values, _canonical(values))


def binding(attributes: Attributes, declared: Mapping[str, DeclaredAttribute]) -> Binding | None:
    """Return what the attributes bind their workflow to, or None if they bind it to nothing.

    Args:
        attributes: Accepted attributes.
        declared: The declared keys, the same that they were accepted with.

    Raises:
        WorkflowError: They bind it to two module types.
    """
    bound: dict[tuple[str, str], list[str]] = {}
    for key, value in attributes.values.items():
        one = declared[key]
        if one.attribute.module is not None and _canonical(value) != _canonical(one.attribute.default):
            bound.setdefault((one.provider_id, one.attribute.module), []).append(key)
    if len(bound) > 1:
        ways = " and ".join(f"{', '.join(sorted(keys))} to {module}" for (_, module), keys in sorted(bound.items()))
        raise WorkflowError(f"the attributes bind the workflow to more than one module type: {ways}")
    for (provider_id, module), keys in bound.items():
        return Binding(provider_id, module, tuple(sorted(keys)))
    return None


def _parse(raw: bytes | str | None) -> dict[str, Any]:
    data = _utf8(raw)
    if len(data) > MAX_ATTRIBUTES:
        raise WorkflowError(
            "the attributes are too large", expected=f"at most {MAX_ATTRIBUTES} bytes", actual=f"{len(data)} bytes"
        )
    if not data:
        return {}
    try:
        values = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error) if isinstance(error, ValueError) else "nested too deep") from None
    if not isinstance(values, dict):
        expected = 'one such as {"key": value}'
        raise WorkflowError("the attributes are no JSON object", expected=expected, actual=_kind(values))
    _check_depth(values)
    _utf8(json.dumps(values, ensure_ascii=False))  # escapes can spell what no text can hold
    return values


def _utf8(raw: bytes | str | None) -> bytes:
    if raw is None:
        return b""
    if isinstance(raw, bytes):
        return raw
    try:
        return raw.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _malformed(f"{error.object[error.start]!a} is a lone surrogate") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!a} is given twice")
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _check_depth(value: object, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise _malformed("nested too deep")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, depth + 1)


def _malformed(what: str) -> WorkflowError:
    return WorkflowError(f"the attributes are not valid: {what}", expected="one strict JSON object")


def _kind(value: object) -> str:
    kinds = {type(None): "null", bool: "true or false", str: "a text", list: "a list"}
    return kinds.get(type(value), "a number")


def _undeclared(
    keys: list[str], declared: Mapping[str, DeclaredAttribute], *, stored: bool
) -> WorkflowError | UnavailableError:
    names = ", ".join(map(ascii, keys))
    if stored:
        return UnavailableError(
            f"no installed provider declares the attribute {names}",
            hint="install the provider that the workflow was deployed with",
        )
    close = near_miss(keys[0], declared)
    known = ", ".join(sorted(key for key, one in declared.items() if one.attribute.refused is None)) or "none"
    return WorkflowError(
        f"no installed provider declares the attribute {names}",
        expected=f"one of {known}",
        hint=f"did you mean {close}?" if close else "install the provider that declares it",
    )


def _check_value(key: str, declared: DeclaredAttribute, value: object) -> None:
    if declared.attribute.refused is not None:
        raise WorkflowError(f"the attribute {key} is refused: {declared.attribute.refused}")
    faults = apply_schema(declared.attribute.schema, value)
    if faults:
        what = "; ".join(f"{spell((key, *fault.path))}: {fault.message}" for fault in faults)
        raise WorkflowError(f"the attribute {key} is not what the provider {declared.provider_id} expects: {what}")


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

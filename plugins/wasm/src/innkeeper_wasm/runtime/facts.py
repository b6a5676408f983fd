"""What is known of a binary once it is compiled. It crosses process boundaries and is kept beside what was compiled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from attrs import asdict, field, fields_dict, frozen, validators

from innkeeper_wasm.runtime.refusals import BinaryKind

__all__ = ["MAX_UNKNOWN_IMPORTS", "BinaryFacts", "ModuleShape"]

MAX_UNKNOWN_IMPORTS = 16

_SHA256 = re.compile(r"[0-9a-f]{64}")
_text = validators.instance_of(str)
_size = [validators.instance_of(int), validators.ge(0)]


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen(kw_only=True)
class ModuleShape:
    """What imports and exports say.

    Args:
        version_import: The marker that makes it a V2 binary (``version_v2…``), empty for a legacy DAG.
        call_capability_parameters: How many parameters its import of ``env.call_capability`` has, None without it.
        unknown_imports: Imports that no guest is given (at most :data:`MAX_UNKNOWN_IMPORTS`); running it would fail for
            them.
        has_start: Whether it exports a function ``_start``.
    """

    version_import: str = field(validator=_text)
    call_capability_parameters: int | None = field(validator=validators.optional(_size))
    unknown_imports: tuple[str, ...] = field(
        converter=_names, validator=[validators.max_len(MAX_UNKNOWN_IMPORTS), validators.deep_iterable(_text)]
    )
    has_start: bool = field(validator=validators.instance_of(bool))


@frozen(kw_only=True)
class BinaryFacts(ModuleShape):
    """What is known of a binary and of what was compiled from it.

    Args:
        kind: How the binary is stored.
        stored_bytes: Its size as stored.
        binary_bytes: Its size without brotli.
        compiled_bytes: Size of the compiled module.
        compiled_sha256: Digest of the compiled module, as hexadecimal digits.
    """

    kind: BinaryKind = field(converter=BinaryKind)
    stored_bytes: int = field(validator=_size)
    binary_bytes: int = field(validator=_size)
    compiled_bytes: int = field(validator=_size)
    compiled_sha256: str = field(validator=validators.matches_re(_SHA256))

    def to_json(self) -> dict[str, Any]:
        """Return the facts as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> BinaryFacts:
        """Return the facts of a JSON object.

        Raises:
            ValueError: If it is not what :meth:`to_json` makes.
        """
        names = fields_dict(cls).keys()
        if not isinstance(data, dict) or data.keys() != names:
            raise ValueError(f"facts of a binary need exactly {', '.join(names)}")
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(f"facts of a binary with a value of the wrong type: {error.args[0]}") from error

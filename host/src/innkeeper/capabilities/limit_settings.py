"""The operator's settings of limits: innkeeper.yaml's ``limits``, and the ``limits`` of entries in plugins.yaml.

Rules of this module:

1. Every fault is told, with where it stands and the name that was probably meant; with one fault there is no table.
2. An entry of plugins.yaml sets the limits that its own provider declares, for everybody. What innkeeper.yaml sets for
   everybody too is set twice, which is a fault.
3. A limit that must not exceed another is checked in every layer where either of the two is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from attrs import evolve

from innkeeper.capabilities.amounts import parse_amount, show_amount
from innkeeper.capabilities.limits import GLOBAL, DeclaredLimit, LimitTable
from innkeeper.config.yaml import FaultyConfigError, Scalar
from innkeeper_sdk.documents import Fault, Origin, near_miss
from innkeeper_sdk.manifest import LimitScope
from innkeeper_sdk.module import LimitValue

__all__ = ["EntryLimits", "apply_settings"]

EntryLimits: TypeAlias = Mapping[str, tuple[Scalar, Origin]]

_SETTINGS: Final = Origin("innkeeper.yaml")
# Which scopes a limit must have to be set in a layer.
_SETTABLE: Final = {
    "global": (LimitScope.GLOBAL, LimitScope.OWNER, LimitScope.WORKFLOW),
    "owner": (LimitScope.OWNER, LimitScope.WORKFLOW),
    "workflow": (LimitScope.WORKFLOW,),
}


def apply_settings(
    limits: Mapping[str, DeclaredLimit],
    *,
    settings: Mapping[str, Mapping[str, Scalar]] | None = None,
    origins: Mapping[str, Origin] | None = None,
    entries: Mapping[str, EntryLimits] | None = None,
) -> LimitTable:
    """Return the limits in force.

    Args:
        limits: The declared limits, by name.
        settings: Values by layer (``global``, ``owner.<40 hex>``, ``workflow.<64 hex>``) and name.
        origins: Where each setting stands, by ``limits.<layer>.<name>``.
        entries: Values by provider and name, with where they stand.

    Raises:
        FaultyConfigError: A setting is not valid.
    """
    reader = _SettingsReader(limits)
    for provider_id, values in (entries or {}).items():
        for name, (raw, origin) in values.items():
            reader.take(GLOBAL, name, raw, origin, provider_id=provider_id)
    for layer, given in (settings or {}).items():
        for name, raw in given.items():
            reader.take(layer, name, raw, (origins or {}).get(f"limits.{layer}.{name}", _SETTINGS))
    reader.check_relations()
    if reader.faults:
        raise FaultyConfigError(reader.faults, hint="see the limits' names and defaults in the providers' manifests")
    return LimitTable(limits, reader.layers)


class _SettingsReader:
    def __init__(self, limits: Mapping[str, DeclaredLimit]) -> None:
        self._limits = limits
        self._origins: dict[tuple[str, str], Origin] = {}
        self.layers: dict[str, dict[str, LimitValue]] = {}
        self.faults: list[Fault] = []

    def take(self, layer: str, name: str, raw: Scalar, origin: Origin, *, provider_id: str | None = None) -> None:
        path = f"limits.{name}" if provider_id is not None else f"limits.{layer}.{name}"
        limit = self._limits.get(name)
        if limit is None or (provider_id is not None and limit.provider_id != provider_id):
            self._unknown(origin, path, name, provider_id)
            return
        kind = layer.partition(".")[0]
        if limit.scope not in _SETTABLE.get(kind, ()):
            self.faults.append(
                Fault(origin, f"{name} cannot be set for one {kind}", path, expected=f"a {limit.scope.value} setting")
            )
            return
        first = self._origins.get((layer, name))
        if first is not None:
            self.faults.append(Fault(origin, f"{name} is set at {first} already", path, expected="one setting"))
            return
        try:
            value = parse_amount(limit.type, raw)
        except ValueError as error:
            self.faults.append(Fault(origin, str(error), path))
            return
        self._origins[layer, name] = origin
        self.layers.setdefault(layer, {})[name] = value

    def check_relations(self) -> None:
        """Find what exceeds the limit that it must not, as far as the settings tell."""
        table = LimitTable({name: evolve(limit, at_most=None) for name, limit in self._limits.items()}, self.layers)
        for layer, limit, other in self._related():
            kind, _, identity = layer.partition(".")
            asked = {} if kind == GLOBAL else {"owner" if kind == "owner" else "workflow_id": identity}
            value, most = (table.get(name, **asked) for name in (limit.name, other.name))
            if value > most:
                origin = self._origins.get((layer, limit.name)) or self._origins[layer, other.name]
                self.faults.append(
                    Fault(
                        origin,
                        f"{limit.name} must not exceed {other.name}",
                        f"limits.{layer}",
                        expected=f"at most {show_amount(other.type, most)}",
                        actual=show_amount(limit.type, value),
                    )
                )

    def _related(self) -> Iterator[tuple[str, DeclaredLimit, DeclaredLimit]]:
        for limit in self._limits.values():
            if limit.at_most is not None:
                other = self._limits[limit.at_most]
                for layer, values in self.layers.items():
                    if limit.name in values or other.name in values:
                        yield layer, limit, other

    def _unknown(self, origin: Origin, path: str, name: str, provider_id: str | None) -> None:
        known = [
            limit.name for limit in self._limits.values() if provider_id is None or limit.provider_id == provider_id
        ]
        close = near_miss(name, known)
        self.faults.append(
            Fault(
                origin,
                "no installed provider and not the host declares this limit"
                if provider_id is None
                else f"the provider {provider_id} does not declare this limit",
                path,
                actual=name,
                hint=f"did you mean {close}?" if close else None,
            )
        )

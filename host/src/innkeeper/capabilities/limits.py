"""The declared limits, and the operator's settings applied to them.

Rules of this module:

1. A limit is declared once, by the host or by one provider's manifest. What is wrong with a declaration is that
   provider's error; what is wrong with a setting is a fault of the configuration, and all of them are told together.
2. The narrowest setting decides: the workflow's, else its owner's, else the global one, else the default. No setting is
   narrower than the limit's scope.
3. A limit that must not exceed another (``at_most``) is checked wherever either of them is set. What cannot be known
   there, a workflow's setting against its owner's, is enforced when the value is asked for.
4. A name that nothing declares is an error, never "unlimited".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final

from attrs import evolve, frozen

from innkeeper.capabilities.amounts import parse_amount, show_amount
from innkeeper.capabilities.host_limits import HOST_LIMITS
from innkeeper_sdk.errors import LimitExceededError, ManifestError
from innkeeper_sdk.manifest import Limit, LimitScope, LimitType, Manifest
from innkeeper_sdk.module import LimitValue

__all__ = ["GLOBAL", "Declarations", "DeclaredLimit", "LimitTable", "declare_limits"]

# The name of the widest layer of settings; the others are ``owner.<40 hex>`` and ``workflow.<64 hex>``.
GLOBAL: Final = "global"

_HOST: Final = "the host"


@frozen
class DeclaredLimit:
    """A limit, as declared.

    Attributes:
        name: Its name, with dots.
        provider_id: The provider whose manifest declares it; empty for the host's own.
        type: What it counts.
        default: Bytes, seconds, a count or a switch.
        scope: The narrowest place where it may be set.
        description: One sentence.
        at_most: Another limit of the same type that it must not exceed, or None.
    """

    name: str
    provider_id: str
    type: LimitType
    default: LimitValue
    scope: LimitScope
    description: str = ""
    at_most: str | None = None


@frozen
class Declarations:
    """All declared limits.

    Attributes:
        limits: By name, sorted; without the faulty declarations and relations.
        errors: What is wrong with a provider's declarations, by its id: such a provider must not start.
    """

    limits: Mapping[str, DeclaredLimit]
    errors: Mapping[str, ManifestError]


class LimitTable:
    """The limits in force; implements ``innkeeper_sdk.hooks.Limits``.

    Args:
        limits: The declared limits, by name.
        layers: Values by layer and name. A layer is ``global``, ``owner.<40 hex>`` or ``workflow.<64 hex>``.
    """

    def __init__(
        self, limits: Mapping[str, DeclaredLimit], layers: Mapping[str, Mapping[str, LimitValue]] | None = None
    ) -> None:
        self._limits = limits
        self._layers = layers or {}

    @property
    def declared(self) -> Mapping[str, DeclaredLimit]:
        """Return the declared limits, by name."""
        return self._limits

    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
        """Return a limit's value for a workflow.

        Args:
            name: The limit.
            owner: 40 hexadecimal digits; empty for none.
            workflow_id: 64 hexadecimal digits; empty for none.

        Returns:
            Bytes of a size, seconds of a duration, a count, or a switch.

        Raises:
            KeyError: Nothing declares it.
        """
        limit = self._limits[name]
        value = self._set(limit, owner, workflow_id)
        if limit.at_most is not None:
            value = min(value, self.get(limit.at_most, owner=owner, workflow_id=workflow_id))
        return value

    def of_provider(self, provider_id: str, *, owner: str = "", workflow_id: str = "") -> dict[str, LimitValue]:
        """Return the values of every limit that a provider declares, by name."""
        names = [name for name, limit in self._limits.items() if limit.provider_id == provider_id]
        return {name: self.get(name, owner=owner, workflow_id=workflow_id) for name in names}

    def check(self, name: str, amount: float, *, owner: str = "", workflow_id: str = "") -> None:
        """Check an amount; limits are inclusive.

        Args:
            name: The limit; not a switch.
            amount: Bytes, seconds or a count.
            owner: 40 hexadecimal digits.
            workflow_id: 64 hexadecimal digits.

        Raises:
            KeyError: Nothing declares the limit.
            LimitExceededError: The amount is larger.
        """
        if amount > self.get(name, owner=owner, workflow_id=workflow_id):
            raise self.exceeded(name, amount, owner=owner, workflow_id=workflow_id)

    def exceeded(self, name: str, amount: float, *, owner: str = "", workflow_id: str = "") -> LimitExceededError:
        """Return the error for an amount that is too large, in the reference's words.

        Raises:
            KeyError: Nothing declares the limit.
        """
        limit = self._limits[name]
        who = {
            LimitScope.GLOBAL: "",
            LimitScope.OWNER: f" for owner[{owner}]",
            LimitScope.WORKFLOW: f" for workflow[{workflow_id}]",
        }[limit.scope]
        most = show_amount(limit.type, self.get(name, owner=owner, workflow_id=workflow_id))
        return LimitExceededError(f"{name} limited{who}: cannot use {show_amount(limit.type, amount)}, limit is {most}")

    def _set(self, limit: DeclaredLimit, owner: str, workflow_id: str) -> LimitValue:
        for layer in _layers(limit.scope, owner, workflow_id):
            values = self._layers.get(layer)
            if values is not None and limit.name in values:
                return values[limit.name]
        return limit.default


def _layers(scope: LimitScope, owner: str, workflow_id: str) -> Iterator[str]:
    """Yield the layers where a limit of a scope may be set for a workflow, the narrowest first."""
    if scope is LimitScope.WORKFLOW:
        yield f"workflow.{workflow_id}"
    if scope is not LimitScope.GLOBAL:
        yield f"owner.{owner}"
    yield GLOBAL


def declare_limits(manifests: Iterable[Manifest], *, host: Mapping[str, Limit] = HOST_LIMITS) -> Declarations:
    """Gather the limits of the host and of providers.

    Args:
        manifests: Of every installed provider, in the order in which they take names.
        host: The host's own limits.
    """
    limits: dict[str, DeclaredLimit] = {}
    errors: dict[str, list[str]] = {}
    for provider_id, declared in [("", host), *((manifest.id, manifest.limits) for manifest in manifests)]:
        for name, limit in declared.items():
            if name in limits:
                other = limits[name].provider_id or _HOST
                errors.setdefault(provider_id, []).append(f"{name} is declared by {other} already")
                continue
            try:
                limits[name] = _declared(provider_id, name, limit)
            except ValueError as error:
                errors.setdefault(provider_id, []).append(f"the default of {name}: {error}")
    for name, problem in _relation_problems(limits):
        errors.setdefault(limits[name].provider_id, []).append(f"{name} {problem}")
        limits[name] = evolve(limits[name], at_most=None)
    return Declarations(
        limits=dict(sorted(limits.items())),
        errors={
            provider_id: ManifestError(
                f"the limits of the manifest are not valid: {'; '.join(problems)}", provider=provider_id
            )
            for provider_id, problems in errors.items()
        },
    )


def _declared(provider_id: str, name: str, limit: Limit) -> DeclaredLimit:
    return DeclaredLimit(
        name=name,
        provider_id=provider_id,
        type=limit.type,
        default=parse_amount(limit.type, limit.default),
        scope=limit.scope,
        description=limit.description,
        at_most=limit.at_most,
    )


def _relation_problems(limits: Mapping[str, DeclaredLimit]) -> list[tuple[str, str]]:
    problems = []
    for name, limit in limits.items():
        if limit.at_most is None:
            continue
        other = limits.get(limit.at_most)
        if other is None:
            problems.append((name, f"is at most {limit.at_most}, which nothing declares"))
        elif other.type is not limit.type or limit.type is LimitType.BOOLEAN:
            problems.append((name, f"is at most {limit.at_most}, which counts something else"))
        elif limit.default > other.default:
            problems.append((name, f"is at most {limit.at_most}, whose default is smaller"))
    graph = {name: [limit.at_most] for name, limit in limits.items() if limit.at_most is not None}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        problems += [(name, f"is at most itself: {', '.join(circle)}") for name in sorted(set(circle))]
    return problems

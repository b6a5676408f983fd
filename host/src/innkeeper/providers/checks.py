"""What can be wrong between plugins.yaml and the manifests.

Rules of this module:

1. An entry's own faults are all told together, with where they stand.
2. What only one provider may have (a kind of binary, a module type's name, a capability's id, a limit's name) belongs
   to the first entry that declares it; a later one fails, and its reason names both.
3. A key of ``config`` behind a reference is checked when the reference is resolved; until then only the shape is.
4. A key without effect (``env`` without a process) is a fault: an operator who wrote it meant something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from attrs import evolve

import innkeeper_sdk
from innkeeper.capabilities.declarations import effective
from innkeeper.capabilities.limits import declare_limits
from innkeeper.config.references import has_reference
from innkeeper.providers.catalog import Catalog, CatalogEntry
from innkeeper.providers.discovery import Discovery
from innkeeper.providers.parts import hosted
from innkeeper.providers.states import ProviderState
from innkeeper_sdk.documents import Node, Origin, locate, spell
from innkeeper_sdk.errors import ConfigError, ManifestError
from innkeeper_sdk.manifest import CapabilityDeclaration, Manifest, Part
from innkeeper_sdk.schemas import apply_schema

__all__ = ["check_entries", "config_faults", "runs_in_host"]

# Keywords that look at a mapping's keys only, so that no reference among its values can change what they say.
_SHAPE: Final = frozenset(
    ("required", "additionalProperties", "minProperties", "maxProperties", "propertyNames", "dependentRequired")
)
# In the environment of a process: where it runs, whose it is, and how it speaks to the host.
_OWN_VARIABLES: Final = ("INNKEEPER_", "PLUGIN_", "CL_", "TMPDIR")
_NO_CONFIG: Final[Mapping[str, Any]] = {"type": "object", "maxProperties": 0}


def check_entries(joined: Iterable[CatalogEntry], discovery: Discovery) -> Catalog:
    """Check joined entries, and gather what their providers and all other installed ones declare.

    Args:
        joined: The entries, in the order of plugins.yaml.
        discovery: What is installed.
    """
    entries = [_check(item) if item.starts and item.discovered is not None else item for item in joined]
    entries = _check_claims(entries)
    installed = _installed(entries, discovery)
    declared = declare_limits(installed.values())
    entries = [
        item.failed(declared.errors[item.id].message) if item.starts and item.id in declared.errors else item
        for item in entries
    ]
    return Catalog(tuple(_check_needs(entries)), installed, declared.limits)


def config_faults(
    manifest: Manifest, config: Mapping[str, Any] | None, node: Node | None, *, origin: Origin
) -> list[str]:
    """Return what of a ``config`` does not fit its provider's schema.

    Args:
        manifest: The provider's manifest.
        config: The values; references may still be in it.
        node: The same with origins, or None.
        origin: Where the entry stands.
    """
    schema = _NO_CONFIG if manifest.config is None else manifest.config
    if manifest.config is None and config:
        return [f"{_place(origin, node, ())}: the provider takes no config"]
    return [
        f"{_place(origin, node, fault.path)}: {spell(('config', *fault.path))}: {fault.message}"
        for fault in apply_schema(schema, dict(config or {}))
        if fault.keyword in _SHAPE or not has_reference(fault.instance)
    ]


def runs_in_host(declaration: CapabilityDeclaration, mode: str | None) -> bool:
    """Return whether a capability runs in the host's process.

    Args:
        declaration: The capability.
        mode: What the entry asks for, where there is a choice.
    """
    return hosted([part.value for part in declaration.where], mode)


def _check(item: CatalogEntry) -> CatalogEntry:
    if item.discovered is None:
        return item
    try:
        manifest = item.discovered.manifest()
    except ManifestError as error:
        return item.failed(str(error))
    item = evolve(item, manifest=manifest)
    faults = list(_faults(item, manifest))
    if faults:
        return item.failed("; ".join(faults))
    return _with_parts(item, manifest)


def _faults(item: CatalogEntry, manifest: Manifest) -> Iterator[str]:
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - a command that lists does not check

    entry = item.entry
    if not SpecifierSet(manifest.sdk).contains(innkeeper_sdk.__version__, prereleases=True):
        yield f"it works with the SDK {manifest.sdk}, this host has {innkeeper_sdk.__version__}"
    try:
        effective(item.id, manifest.capabilities, entry.visibility)
    except ConfigError as error:
        yield f"{entry.origin}: {entry.path}.visibility: {error.message}" + (f"; {error.hint}" if error.hint else "")
    parts = {part for capability in manifest.capabilities for part in capability.where}
    if entry.mode is not None and Part(entry.mode) not in parts:
        yield f"{entry.origin}: {entry.path}.mode: none of its capabilities can run as {entry.mode}"
    yield from _process_faults(item, manifest)
    yield from config_faults(manifest, entry.config, entry.config_node, origin=entry.origin)


def _process_faults(item: CatalogEntry, manifest: Manifest) -> Iterator[str]:
    from innkeeper.loop.plans import read_restart  # noqa: PLC0415 - a command that lists does not check

    entry = item.entry
    if not any(part.mode == "loop" for part in item.parts):
        reason = "the provider has no processes" if not manifest.processes else "none of its processes is started"
        for key, value in (("env", entry.env), ("restart", entry.restart)):
            if value:
                yield f"{entry.origin}: {entry.path}.{key}: has no effect, {reason}"
        return
    try:
        read_restart(entry.restart, provider=item.id, path=f"{entry.origin}: {entry.path}.restart")
    except ConfigError as error:
        yield str(error)
    for name in entry.env:
        if name.startswith(_OWN_VARIABLES):
            yield f"{entry.origin}: {entry.path}.env.{name}: is the host's own to set"


def _place(origin: Origin, node: Node | None, path: tuple[str | int, ...]) -> Origin:
    return origin if node is None else locate(node, path)


def _with_parts(item: CatalogEntry, manifest: Manifest) -> CatalogEntry:
    """Say what of a provider this host does not start."""
    missing = [f"the workflow source {name}" for name in manifest.sources]
    missing += [f"the secret store {name}" for name in manifest.secret_stores]
    if not missing:
        return item
    reason = f"this version of the host does not start {', '.join(missing)}"
    return evolve(item, state=item.state if item.parts else ProviderState.UNSUPPORTED, reason=reason)


def _check_claims(entries: list[CatalogEntry]) -> list[CatalogEntry]:
    claims: Mapping[str, Callable[[Manifest], Iterable[str]]] = {
        "kind of binary": lambda manifest: (kind.name for kind in manifest.kinds),
        "suffix": lambda manifest: (suffix.suffix for kind in manifest.kinds for suffix in kind.suffixes),
        "module type": lambda manifest: (module.name for module in manifest.modules),
        "capability": lambda manifest: (capability.id for capability in manifest.capabilities),
    }
    owners: dict[tuple[str, str], str] = {}
    checked = []
    for item in entries:
        if item.starts and item.manifest is not None:
            wanted = [(what, name) for what, names in claims.items() for name in names(item.manifest)]
            taken = [f"the {what} {name} is {owners[what, name]}'s" for what, name in wanted if (what, name) in owners]
            if taken:
                checked.append(item.failed(f"{'; '.join(taken)}; disable one of them in plugins.yaml"))
                continue
            owners.update(dict.fromkeys(wanted, item.id))
        checked.append(item)
    return checked


def _installed(entries: Iterable[CatalogEntry], discovery: Discovery) -> Mapping[str, Manifest]:
    """Return the good manifests by id: those that are to be started, in order, then the others."""
    installed = {item.id: item.manifest for item in entries if item.starts and item.manifest is not None}
    for provider in discovery.providers:
        if provider.error is None and provider.id not in installed:
            installed[provider.id] = provider.manifest()
    return installed


def _check_needs(entries: list[CatalogEntry]) -> Iterable[CatalogEntry]:
    """Fail what needs a provider that will not be there."""
    needs = {item.id: list(item.manifest.needs) for item in entries if item.starts and item.manifest is not None}
    reasons: dict[str, str] = {}
    while circle := _circle({id_: wanted for id_, wanted in needs.items() if id_ not in reasons}):
        reasons.update(dict.fromkeys(circle, f"providers need each other: {', '.join(circle)}"))
    changed = True
    while changed:
        changed = False
        for id_, wanted in needs.items():
            absent = [need for need in wanted if need not in needs or need in reasons]
            if absent and id_ not in reasons:
                reasons[id_] = f"it needs {', '.join(absent)}, which will not be there; enable it in plugins.yaml"
                changed = True
    return [item.failed(reasons[item.id]) if item.starts and item.id in reasons else item for item in entries]


def _circle(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one circle of needs, its first name again at its end; empty if there is none."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []

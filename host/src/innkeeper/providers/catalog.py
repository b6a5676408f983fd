"""What plugins.yaml names, joined with what is installed.

Rules of this module:

1. Joining is cheap and imports nothing of a provider: a command that lists needs no more than ``join``.
2. What is wrong with an entry or its provider makes *that* entry failed, with its reason; the rest goes on. Of two
   entries that want the same thing for themselves, the first one in plugins.yaml has it (see ``checks``).
3. Of a disabled entry nothing is checked.
4. Attributes, limits and messages of workflows are declared by every *installed* provider, so that disabling one makes
   its workflows wait instead of changing what they mean.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from attrs import evolve, field, frozen

from innkeeper.config.entries import PluginEntry
from innkeeper.config.packages import Package
from innkeeper.config.plugins import PluginsConfig
from innkeeper.providers.discovery import Discovered, Discovery
from innkeeper.providers.parts import DeclaredPart, declared_parts
from innkeeper.providers.states import ProviderState

if TYPE_CHECKING:
    from innkeeper.capabilities.limits import DeclaredLimit
    from innkeeper_sdk.manifest import Manifest

__all__ = ["Catalog", "CatalogEntry", "build_catalog", "join"]


@frozen
class CatalogEntry:
    """An entry of plugins.yaml with what is installed of it.

    Attributes:
        id: The provider's id; where an entry names no provider that is there, what it may be called.
        entry: The entry.
        discovered: The installed provider, or None.
        manifest: Its manifest; None if there is none, or before ``build_catalog`` has read it.
        state: STARTING if it is to be started, else what it is instead.
        reason: Why it is not to be started; or, of one that is, which of its parts this host does not start.
    """

    id: str
    entry: PluginEntry
    discovered: Discovered | None = None
    manifest: Manifest | None = field(default=None, repr=False)
    state: ProviderState = ProviderState.STARTING
    reason: str = ""

    @property
    def starts(self) -> bool:
        """Whether it is to be started."""
        return self.state is ProviderState.STARTING

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.id if self.discovered is None else self.discovered.title

    @property
    def package(self) -> str:
        """The distribution, or what the entry names."""
        if self.discovered is not None:
            return self.discovered.distribution
        return self.entry.package.text if self.entry.package is not None else self.entry.module_uri or ""

    @property
    def version(self) -> str:
        """The distribution's version, or the entry's Git reference."""
        return self.entry.git_ref if self.discovered is None else self.discovered.version

    @property
    def mode(self) -> str:
        """Where its capabilities run that have a choice, or its only parts: ``host`` or ``loop``."""
        if self.entry.module_uri is not None:
            return "loop"
        only_processes = {part.mode for part in self.parts} in ({"loop"}, {"loop", "helper"})
        return self.entry.mode or ("loop" if only_processes else "host")

    @property
    def parts(self) -> tuple[DeclaredPart, ...]:
        """The parts that it has on this host."""
        return declared_parts(None if self.discovered is None else self.discovered.document, self.entry.mode)

    def failed(self, reason: str) -> CatalogEntry:
        """Return the same entry as one that cannot be started."""
        return evolve(self, state=ProviderState.FAILED, reason=reason)


@frozen
class Catalog:
    """Everything that this host could load.

    Attributes:
        entries: The entries, in the order of plugins.yaml.
        installed: Manifests of every installed provider that has a good one, by id, those of entries first.
        limits: Every declared limit, the host's own too, by name.
    """

    entries: tuple[CatalogEntry, ...]
    installed: Mapping[str, Manifest] = field(factory=dict, repr=False)
    limits: Mapping[str, DeclaredLimit] = field(factory=dict, repr=False)


def join(plugins: PluginsConfig, discovery: Discovery) -> tuple[CatalogEntry, ...]:
    """Join the entries of plugins.yaml with what is installed, without reading manifests as records.

    Args:
        plugins: The entries.
        discovery: What is installed.

    Returns:
        One catalog entry per entry, in order, with ids of its own.
    """
    joined = [_join(entry, discovery) for entry in plugins.entries]
    return tuple(_with_own_ids(joined))


def build_catalog(plugins: PluginsConfig, discovery: Discovery) -> Catalog:
    """Join, and check everything that can be checked without importing a provider.

    Args:
        plugins: The entries.
        discovery: What is installed; from a scan if providers are to be started (see ``discovery``).
    """
    from innkeeper.providers.checks import check_entries  # noqa: PLC0415 - a command that lists does not check

    return check_entries(join(plugins, discovery), discovery)


def _join(entry: PluginEntry, discovery: Discovery) -> CatalogEntry:
    if entry.package is None:
        return _module_of_go(entry)
    found, reason = _find(entry.package, entry.id, discovery)
    name = entry.id or (found.id if found is not None else entry.group)
    joined = CatalogEntry(name, entry, found)
    if not entry.enabled:
        return evolve(joined, state=ProviderState.DISABLED)
    if found is not None and found.error is not None:
        return joined.failed(found.error)
    return joined if reason is None else joined.failed(reason)


def _module_of_go(entry: PluginEntry) -> CatalogEntry:
    joined = CatalogEntry(entry.id or entry.group, entry)
    if not entry.enabled:
        return evolve(joined, state=ProviderState.DISABLED)
    if entry.built_only:
        return evolve(joined, state=ProviderState.STOPPED, reason="it is not started: its entry has no capabilities")
    reason = "it is a module of Go, and this version of the host starts none"
    return evolve(joined, state=ProviderState.UNSUPPORTED, reason=reason)


def _find(package: Package, id_: str | None, discovery: Discovery) -> tuple[Discovered | None, str | None]:
    """Return the provider that a package and an id mean, and why there is none or it will not do."""
    if package.name is not None:
        candidates = discovery.by_distribution(package.name)
    else:
        wanted = package.path.resolve() if package.path is not None else None
        candidates = tuple(provider for provider in discovery.providers if _source(provider) == wanted)
    hint = f"install it with: pip install {shlex.quote(package.text)}"
    if not candidates:
        return None, f"no provider of the package {package.text} is installed; {hint}"
    ids = ", ".join(candidate.id for candidate in candidates)
    chosen = [candidate for candidate in candidates if id_ is None or candidate.id == id_]
    if not chosen:
        return None, f"the package {package.text} has no provider {id_}; it has {ids}"
    if len(chosen) > 1:
        return None, f"the package {package.text} has several providers, {ids}; say which one with id"
    (found,) = chosen
    if package.specifier and not _satisfies(found.version, package.specifier):
        return found, (
            f"the package {found.distribution} is installed in version {found.version}, plugins.yaml wants "
            f"{package.specifier}; {hint}"
        )
    return found, None


def _source(provider: Discovered) -> Path | None:
    url = urlsplit(provider.source or "")
    return Path(unquote(url.path)).resolve() if url.scheme == "file" else None


def _satisfies(version: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - most entries name no versions
    from packaging.version import InvalidVersion  # noqa: PLC0415 - as above

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _with_own_ids(joined: Iterable[CatalogEntry]) -> Iterable[CatalogEntry]:
    """Give each entry an id that no other has; entries that mean one provider fail, all of them."""
    entries = list(joined)
    meant: dict[str, list[CatalogEntry]] = {}
    for item in entries:
        if item.discovered is not None and item.entry.enabled:
            meant.setdefault(item.id, []).append(item)
    taken: set[str] = {id_ for id_, items in meant.items() if len(items) == 1}
    for item in entries:
        rivals = meant.get(item.id, []) if item.discovered is not None and item.entry.enabled else []
        if len(rivals) > 1:
            places = " and ".join(str(rival.entry.origin) for rival in rivals)
            yield evolve(item, id=_own(item, taken)).failed(f"the provider {item.id} is named by two entries, {places}")
        elif rivals:
            yield item
        else:
            yield evolve(item, id=_own(item, taken))


def _own(item: CatalogEntry, taken: set[str]) -> str:
    name = item.id if item.id not in taken else item.entry.path
    taken.add(name)
    return name

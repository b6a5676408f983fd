"""Which providers are installed, told without importing any of them.

Rules of this module:

1. A provider is an entry point of the group ``innkeeper.providers``; its manifest lies in the top-level package that
   the entry point names, which is located by that name alone. Nothing of a provider is imported or started.
2. What is wrong with one provider is its own ``error``, what is wrong with a distribution is a ``problem``; the others
   are found. Two distributions with one id are an error of both, which names both.
3. The first distribution of a name on the search path hides later ones, as it does for imports.
4. An index (see ``index``) may answer instead of a scan, for commands that list. What runs a provider's code scans:
   a stale or foreign index must not choose the code.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, evolve, field, frozen

from innkeeper.config.packages import normalised
from innkeeper.providers.index import Index
from innkeeper_sdk.errors import InnkeeperError, ManifestError

if TYPE_CHECKING:
    from importlib_metadata import Distribution, EntryPoint

    from innkeeper_sdk.manifest import Manifest

__all__ = ["GROUP", "Discovered", "Discovery", "discover"]

GROUP: Final = "innkeeper.providers"

_VALUE: Final = re.compile(
    r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?::(?P<attribute>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*))?", re.ASCII
)


@frozen
class Discovered:
    """An installed provider.

    Attributes:
        id: Its id: the entry point's name.
        distribution: The distribution's name.
        version: Its version.
        value: What the entry point names: ``package.module:object``.
        location: The entry of the search path that the distribution was found in.
        source: The URL that it was installed from directly (PEP 610), or None.
        manifest_path: Its manifest, or None if its package was not found.
        document: The manifest's values, or None if they could not be read.
        error: Why the provider cannot be used, or None.
    """

    id: str
    distribution: str
    version: str
    value: str
    location: str
    source: str | None = None
    manifest_path: str | None = None
    document: Mapping[str, Any] | None = field(default=None, repr=False)
    error: str | None = None

    @property
    def title(self) -> str:
        """What a person calls it; its id if its manifest does not say."""
        title = (self.document or {}).get("title")
        return title if isinstance(title, str) else self.id

    @property
    def package_dir(self) -> Path | None:
        """The directory of its top-level package."""
        return None if self.manifest_path is None else Path(self.manifest_path).parent

    @property
    def module(self) -> str:
        """The module that its entry point names."""
        return self.value.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        """The object in that module, with dots; empty for the module itself."""
        return self.value.partition(":")[2].strip()

    def manifest(self) -> Manifest:
        """Return the manifest as a record.

        Raises:
            ManifestError: The provider cannot be used.
        """
        if self.error is not None or self.document is None:
            raise ManifestError(self.error or "the manifest was not read", provider=self.id, path=self.manifest_path)
        # Records need cattrs, which a command that lists does not.
        from innkeeper_sdk.manifest import parse_manifest  # noqa: PLC0415 - as above

        return parse_manifest(self.document, path=self.manifest_path or "")


@frozen
class Discovery:
    """What is installed.

    Attributes:
        providers: Every provider, by id, then distribution.
        problems: What is wrong with distributions that may or may not have a provider; only a scan tells.
        from_index: Whether the index answered.
        index_note: Why there is no usable index, or None.
    """

    providers: tuple[Discovered, ...]
    problems: tuple[str, ...] = ()
    from_index: bool = False
    index_note: str | None = None

    def by_id(self, id_: str) -> Discovered | None:
        """Return the provider with an id; of two, either: both have an error that names both."""
        return next((provider for provider in self.providers if provider.id == id_), None)

    def by_distribution(self, name: str) -> tuple[Discovered, ...]:
        """Return the providers of a distribution.

        Args:
            name: Its normalised name.
        """
        return tuple(provider for provider in self.providers if normalised(provider.distribution) == name)


def discover(search_path: Sequence[str] | None = None, *, index_dir: Path | None = None) -> Discovery:
    """Find the installed providers.

    Args:
        search_path: Where distributions are; ``sys.path`` by default.
        index_dir: The directory of the index; None scans and keeps nothing.

    Returns:
        Every provider, with its error if it has one.
    """
    entries = [entry or os.getcwd() for entry in (sys.path if search_path is None else search_path)]
    index = None if index_dir is None else Index(index_dir, entries)
    rows = None if index is None else index.load()
    if rows is not None:
        return Discovery(tuple(Discovered(**row) for row in rows), from_index=True)
    # Taken before the scan: what changes during it makes the index stale.
    stamp = None if index is None else index.stamp()
    own = search_path is None or list(search_path) == sys.path
    problems: list[str] = []
    providers = _named_once(_scan(entries, problems, own_path=own))
    # With problems, the next command shall tell them too.
    if index is not None and stamp is not None and not problems:
        index.store(stamp, [asdict(provider, recurse=False) for provider in providers])
    return Discovery(providers, tuple(problems), index_note=None if index is None else index.note)


def _scan(entries: list[str], problems: list[str], *, own_path: bool) -> Iterator[Discovered]:
    # 30 ms, of which a command with an index needs nothing.
    from importlib_metadata import Distribution  # noqa: PLC0415 - as above

    locate = _finder(None if own_path else entries)
    seen: set[str] = set()
    for candidate in Distribution.discover(path=entries):
        try:
            # Most distributions have no entry points, and nearly none have ours: parsing them all would cost the most.
            if GROUP not in (candidate.read_text("entry_points.txt") or ""):
                continue
            name = normalised(candidate.name)
            first = next(iter(Distribution.discover(name=name, path=entries)), candidate)
            points = [point for point in first.entry_points if point.group == GROUP]
        except Exception as error:  # noqa: BLE001 - metadata is what somebody left there
            where = candidate.locate_file("")
            problems.append(f"a distribution in {where} has unusable metadata: {type(error).__name__}: {error}")
            continue
        if name not in seen:
            seen.add(name)
            for point in points:
                yield _discovered(first, point, locate)


def _discovered(distribution: Distribution, point: EntryPoint, locate: Callable[[str], Path | None]) -> Discovered:
    found = Discovered(
        id=point.name,
        distribution=distribution.name,
        version=distribution.version,
        value=point.value,
        location=str(distribution.locate_file("")),
        source=getattr(distribution.origin, "url", None),
    )
    match = _VALUE.fullmatch(point.value.strip())
    if match is None:
        return evolve(found, error=f"its entry point {point.value!r} is not package.module:object")
    package = match["module"].partition(".")[0]
    try:
        path = locate(package)
    except InnkeeperError as error:
        return evolve(found, error=str(error))
    return _with_manifest(found, package, path)


def _with_manifest(found: Discovered, package: str, path: Path | None) -> Discovered:
    from innkeeper_sdk.manifest import MANIFEST_NAME  # noqa: PLC0415 - only a scan needs it
    from innkeeper_sdk.manifest_reader import read_document, structure_manifest  # noqa: PLC0415 - as above

    if path is None:
        return evolve(found, error=f"its entry point names the package {package}, which is not there")
    file = path / MANIFEST_NAME
    found = evolve(found, manifest_path=str(file))
    try:
        document, root = read_document(file)
        manifest = structure_manifest(document, path=str(file), root=root)
    except ManifestError as error:
        return evolve(found, error=str(error))
    if manifest.id != found.id:
        return evolve(found, error=f"its manifest {file} says id {manifest.id}, its entry point is named {found.id}")
    return evolve(found, document=document)


def _finder(path: list[str] | None) -> Callable[[str], Path | None]:
    """Return what finds a top-level package's directory without importing it.

    Args:
        path: The search path; None for this process's own, with the finders of editable installs.
    """
    from importlib.machinery import PathFinder  # noqa: PLC0415 - only a scan needs it
    from importlib.util import find_spec  # noqa: PLC0415 - as above

    def locate(package: str) -> Path | None:
        try:
            spec = find_spec(package) if path is None else PathFinder.find_spec(package, path)
        except Exception as error:
            raise ManifestError(f"its package {package} cannot be located: {type(error).__name__}: {error}") from error
        if spec is None:
            return None
        if not spec.submodule_search_locations:
            raise ManifestError(f"{package} is a single module; a provider's manifest lies in a package")
        return Path(next(iter(spec.submodule_search_locations)))

    return locate


def _named_once(providers: Iterator[Discovered]) -> tuple[Discovered, ...]:
    found = sorted(providers, key=lambda provider: (provider.id, provider.distribution))
    holders: dict[str, list[Discovered]] = {}
    for provider in found:
        holders.setdefault(provider.id, []).append(provider)
    result = []
    for provider in found:
        rivals = holders[provider.id]
        if len(rivals) > 1:
            names = " and ".join(f"{rival.distribution} {rival.version} ({rival.location})" for rival in rivals)
            message = f"its id is given by two distributions, {names}; remove one of them"
            result.append(evolve(provider, error=message))
        else:
            result.append(provider)
    return tuple(result)

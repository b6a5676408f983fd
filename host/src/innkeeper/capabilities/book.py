"""The registry's book: which id belongs to whom, and what stands under it.

Rules of this module:

1. An id belongs to the provider that declared it, before that provider runs. Two claims on one id are an error that
   names both.
2. What a capability says of itself is read once and binds nothing: id, type, methods and visibility are those of the
   declaration.
3. plugins.yaml may only tighten a visibility. A grant names an exact id and is for one provider.
4. An unregistered id stays declared, so that whoever may use it is told "not ready" and not "not there".
5. What stood under an id is revoked when it is unregistered.
6. Every change is told to those who wait for one.

Not thread-safe: for the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import define, evolve

from innkeeper.capabilities.containment import Contained
from innkeeper.capabilities.declarations import bind, described, effective, read_info
from innkeeper.capabilities.ids import CapabilityId, parse
from innkeeper_sdk.capability import Capability, CapabilityInfo, Visibility
from innkeeper_sdk.errors import ConfigError, ConflictError, ProviderFailedError
from innkeeper_sdk.manifest import CAPABILITY_ID_LENGTH, CapabilityDeclaration

__all__ = ["SHOWN", "Book", "Slot"]

_LOGGER: Final = logging.getLogger(__name__)

# How much of an id an error repeats: no id has more than 128 characters, and a guest may send megabytes.
SHOWN: Final = 1024


@define(eq=False)
class Slot:
    """What the host knows of an id, and what stands under it.

    Attributes:
        id: The id in its parts.
        provider_id: Whose it is.
        info: What the host knows it by.
        visibility: The visibility in force.
        declaration: What was declared, its visibility as plugins.yaml tightened it; None of a bare id.
        contained: The capability; None while it is not registered.
    """

    id: CapabilityId
    provider_id: str
    info: CapabilityInfo
    visibility: Visibility
    declaration: CapabilityDeclaration | None = None
    contained: Contained | None = None

    @property
    def call_limits(self) -> dict[str, str]:
        """Return the name of the limit that counts a method's calls, by method, where one is declared."""
        methods = {} if self.declaration is None else self.declaration.methods
        return {name: method.calls for name, method in methods.items() if method.calls is not None}

    def empty(self) -> None:
        """Revoke what stands under it."""
        if self.contained is not None:
            self.contained.revoke()
            self.contained = None


class Book:
    """Keep what providers may register, and what they have registered.

    Args:
        logger: Where the faults of providers go.
    """

    def __init__(self, *, logger: logging.Logger = _LOGGER) -> None:
        self._logger = logger
        self._owners: dict[str, str] = {}
        self._by_name: dict[str, dict[str, Slot]] = {}
        self._grants: dict[str, frozenset[str]] = {}
        self._granted_to: dict[str, tuple[str, ...]] = {}
        self._next_change = asyncio.Event()

    @property
    def next_change(self) -> asyncio.Event:
        """Return what is set when anything here has changed after now."""
        return self._next_change

    def declare(
        self,
        provider_id: str,
        capabilities: Iterable[CapabilityDeclaration | str],
        *,
        visibility: Mapping[str, Visibility] | None = None,
    ) -> None:
        """Say what a provider may register, in place of what was said of it before.

        Args:
            provider_id: The provider.
            capabilities: What its manifest declares. A bare id, of an entry without a manifest, is internal, and
                there is nothing of it to use until it is registered.
            visibility: What plugins.yaml says, by id or ``*``; it tightens what the manifest declares.

        Raises:
            ConfigError: An id is not one, or is declared twice, or a visibility would be loosened.
            ConflictError: Another provider declares an id, or one of this provider is registered now.
        """
        items = list(capabilities)
        declarations = [item for item in items if isinstance(item, CapabilityDeclaration)]
        visibilities = effective(provider_id, declarations, visibility or {})
        ids: dict[str, CapabilityId] = {}
        for item in items:
            parsed = self._claim(provider_id, item if isinstance(item, str) else item.id)
            if parsed.text in ids:
                raise ConfigError(f"{parsed.text} is declared twice", provider=provider_id, hint="declare it once")
            ids[parsed.text] = parsed
        registered = sorted(slot.id.text for slot in self._of(provider_id) if slot.contained is not None)
        if registered:
            raise ConflictError(
                f"{', '.join(registered)} is registered while it is declared anew",
                provider=provider_id,
                hint="unregister it first",
            )
        self._forget(provider_id)
        self._owners.update(dict.fromkeys(ids, provider_id))
        for declaration in declarations:
            tight = evolve(declaration, visibility=visibilities[declaration.id])
            self._add(Slot(ids[tight.id], provider_id, described(tight), tight.visibility, tight))
        self._changed()

    def grant(self, provider_id: str, ids: Iterable[str]) -> None:
        """Say what a provider may use of what is internal to others, in place of what was said before.

        Args:
            provider_id: The provider that the grant is for.
            ids: Exact ids. One that nothing declares grants nothing, yet.

        Raises:
            ConfigError: An id is not one.
        """
        granted = frozenset(ids)
        for text in sorted(granted):
            if parse(text) is None:
                raise ConfigError(
                    "a grant is not the id of a capability",
                    provider=provider_id,
                    expected="an exact id, such as name@1.0.0",
                    actual=repr(text[:SHOWN]),
                )
        self._grants[provider_id] = granted
        self._index_grants()
        self._changed()

    def register(
        self,
        provider_id: str,
        capability: Capability,
        *,
        visibility: Visibility | None = None,
        info: CapabilityInfo | None = None,
    ) -> None:
        """Register a capability under the id that its provider declared.

        Args:
            provider_id: The provider, as the host knows it.
            capability: Its object.
            visibility: Stricter than the declared one; or, of a bare id, what plugins.yaml says.
            info: What ``read_info`` returned, if it was read before (it runs the provider's code); read here if not.

        Raises:
            ProviderFailedError: The provider did not declare it, or what it says of itself is not what was declared.
            ConflictError: It is another provider's, registered already, or would be more public than declared.
        """
        if info is None:
            info = read_info(provider_id, capability)
        parsed = self._owned(provider_id, info.id)
        slot = self.named(parsed.name).get(parsed.text)
        if slot is None:  # a bare id: all that is known of it is what it says
            slot = Slot(parsed, provider_id, info, Visibility.INTERNAL)
        if slot.contained is not None:
            raise ConflictError(f"{info.id} is registered already", provider=provider_id, hint="unregister it first")
        if slot.declaration is None:
            slot.info, slot.visibility = info, visibility or Visibility.INTERNAL
        else:
            slot.info = bind(provider_id, info, slot.declaration)
            slot.visibility = _tightened(provider_id, slot.declaration, visibility)
        slot.contained = Contained(capability, info=slot.info, provider_id=provider_id, logger=self._logger)
        self._add(slot)
        self._changed()

    def unregister(self, provider_id: str, capability_id: str) -> None:
        """Take a capability away; it stays declared. Idempotent.

        Raises:
            ProviderFailedError: The provider did not declare it.
            ConflictError: It is another provider's.
        """
        parsed = self._owned(provider_id, capability_id)
        slot = self.named(parsed.name).get(parsed.text)
        if slot is not None:
            slot.empty()
            self._changed()

    def withdraw(self, provider_id: str) -> None:
        """Forget a provider: what it registered and declared, and what it was granted. Idempotent."""
        self._forget(provider_id)
        self._grants.pop(provider_id, None)
        self._index_grants()
        self._changed()

    def slots(self) -> list[Slot]:
        """Return every id that something is known of."""
        return [slot for named in self._by_name.values() for slot in named.values()]

    def named(self, name: str) -> Mapping[str, Slot]:
        """Return the slots of one name, by id."""
        return self._by_name.get(name, {})

    def granted_to(self, capability_id: str) -> tuple[str, ...]:
        """Return the providers that an id is granted to, sorted."""
        return self._granted_to.get(capability_id, ())

    def _claim(self, provider_id: str, text: str) -> CapabilityId:
        parsed = parse(text)
        if parsed is None:
            raise ConfigError(
                "a capability's id is not valid",
                provider=provider_id,
                expected=f"name[:label…]@semver of at most {CAPABILITY_ID_LENGTH} characters",
                actual=repr(text[:SHOWN]),
            )
        owner = self._owners.get(text, provider_id)
        if owner != provider_id:
            raise ConflictError(
                f"the providers {owner} and {provider_id} both declare {text}",
                hint="disable one of them in plugins.yaml",
            )
        return parsed

    def _owned(self, provider_id: str, text: str) -> CapabilityId:
        parsed = parse(text)
        owner = None if parsed is None else self._owners.get(parsed.text)
        if parsed is None or owner is None:
            raise ProviderFailedError(
                "a capability is not declared",
                provider=provider_id,
                expected="an id of its manifest or of its entry in plugins.yaml",
                actual=repr(text[:SHOWN]),
                hint="declare it in the manifest",
            )
        if owner != provider_id:
            raise ConflictError(
                f"{parsed.text} belongs to the provider {owner}, not to {provider_id}",
                hint="disable one of them in plugins.yaml",
            )
        return parsed

    def _index_grants(self) -> None:
        ids = set().union(*self._grants.values())
        self._granted_to = {
            text: tuple(sorted(provider for provider, granted in self._grants.items() if text in granted))
            for text in ids
        }

    def _changed(self) -> None:
        happened, self._next_change = self._next_change, asyncio.Event()
        happened.set()

    def _of(self, provider_id: str) -> list[Slot]:
        return [slot for slot in self.slots() if slot.provider_id == provider_id]

    def _add(self, slot: Slot) -> None:
        self._by_name.setdefault(slot.id.name, {})[slot.id.text] = slot

    def _forget(self, provider_id: str) -> None:
        for slot in self._of(provider_id):
            slot.empty()
            named = self._by_name[slot.id.name]
            del named[slot.id.text]
            if not named:
                del self._by_name[slot.id.name]
        self._owners = {text: owner for text, owner in self._owners.items() if owner != provider_id}


def _tightened(provider_id: str, declaration: CapabilityDeclaration, wanted: Visibility | None) -> Visibility:
    declared = declaration.visibility
    if wanted is None or wanted is declared:
        return declared
    if wanted is Visibility.INTERNAL:
        return wanted
    raise ConflictError(
        f"the visibility of {declaration.id} may only be tightened",
        provider=provider_id,
        expected=declared.value,
        actual=wanted.value,
    )

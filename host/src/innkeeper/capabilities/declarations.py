"""What a provider may register, and what of it the host binds.

Rules of this module:

1. The declaration decides: a manifest's, tightened by plugins.yaml. What a capability says of itself (``info``) must
   agree with it and adds nothing to it but a description.
2. ``info`` is a provider's code: it is read once, and what it raises is the provider's failure.
3. A visibility can be tightened, never loosened; a wish for a capability that nobody declared is a fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from innkeeper.capabilities.containment import location
from innkeeper_sdk.capability import Capability, CapabilityInfo, MethodInfo, Visibility
from innkeeper_sdk.errors import ConfigError, ProviderFailedError
from innkeeper_sdk.manifest import CapabilityDeclaration

__all__ = ["EVERY", "bind", "described", "effective", "read_info"]

# In the visibilities of plugins.yaml: every capability of the entry.
EVERY: Final = "*"


def effective(
    provider_id: str, declarations: Iterable[CapabilityDeclaration], wanted: Mapping[str, Visibility]
) -> dict[str, Visibility]:
    """Return the visibility of each declared capability, by id.

    Args:
        provider_id: The provider, for errors.
        declarations: What its manifest declares.
        wanted: What plugins.yaml says: id, or ``*`` for all, to visibility. The id goes before ``*``.

    Returns:
        The stricter of both.

    Raises:
        ConfigError: An id is not declared, or a visibility would be loosened.
    """
    defaults = {declaration.id: declaration.visibility for declaration in declarations}
    for capability_id, visibility in wanted.items():
        if capability_id != EVERY and capability_id not in defaults:
            near = difflib.get_close_matches(capability_id, defaults, n=1)
            raise ConfigError(
                f"a visibility is given for {capability_id}, which the provider does not declare",
                provider=provider_id,
                expected=f"one of {', '.join(sorted(defaults)) or 'none'}",
                hint=f"did you mean {near[0]}?" if near else None,
            )
        loosened = defaults.get(capability_id) is Visibility.INTERNAL and visibility is not Visibility.INTERNAL
        if loosened:
            raise ConfigError(
                f"the visibility of {capability_id} may only be tightened",
                provider=provider_id,
                expected=Visibility.INTERNAL.value,
                actual=visibility.value,
            )
    # A word for the whole entry means "as public as declared" or "all internal": it loosens nothing.
    whole = wanted.get(EVERY, Visibility.PUBLIC)
    return {
        capability_id: default if wanted.get(capability_id, whole) is Visibility.PUBLIC else Visibility.INTERNAL
        for capability_id, default in defaults.items()
    }


def read_info(provider_id: str, capability: Capability) -> CapabilityInfo:
    """Read what a capability says of itself.

    Args:
        provider_id: Its provider, for errors.
        capability: The provider's object. Reading its ``info`` runs the provider's code.

    Raises:
        ProviderFailedError: It raised, or it is no capability info.
    """
    try:
        info: object = capability.info
    except (Exception, SystemExit) as error:
        raise ProviderFailedError(
            f"the info of {type(capability).__name__} failed with {type(error).__name__} at {location(error)}",
            provider=provider_id,
        ) from error
    if not isinstance(info, CapabilityInfo) or not isinstance(info.id, str):
        raise ProviderFailedError(
            f"the info of {type(capability).__name__} is not what it has to be",
            provider=provider_id,
            expected="a CapabilityInfo with an id",
            actual=type(info).__name__,
        )
    return info


def bind(provider_id: str, info: CapabilityInfo, declaration: CapabilityDeclaration) -> CapabilityInfo:
    """Return what the host knows a capability by.

    Args:
        provider_id: Its provider, for errors.
        info: What it says of itself.
        declaration: What was declared under the same id.

    Raises:
        ProviderFailedError: The two do not agree.
    """
    if info.type is not declaration.type:
        raise ProviderFailedError(
            f"the type of {declaration.id} is not the declared one",
            provider=provider_id,
            expected=declaration.type.value,
            actual=str(getattr(info.type, "value", info.type)),
            hint="change the manifest or the capability's info",
        )
    undeclared = sorted(set(info.methods) - set(declaration.methods))
    if undeclared:
        raise ProviderFailedError(
            f"{declaration.id} has methods that the manifest does not declare",
            provider=provider_id,
            expected=", ".join(sorted(declaration.methods)) or "none",
            actual=", ".join(undeclared),
            hint="add them to the manifest",
        )
    return described(declaration, info.description)


def described(declaration: CapabilityDeclaration, description: str = "") -> CapabilityInfo:
    """Return a declaration as the info of a capability.

    Args:
        declaration: What was declared.
        description: Used if the declaration has none.
    """
    return CapabilityInfo(
        id=declaration.id,
        type=declaration.type,
        description=declaration.description or description,
        methods={
            name: MethodInfo(name=name, input=method.input, output=method.output, idempotent=method.idempotent)
            for name, method in declaration.methods.items()
        },
    )

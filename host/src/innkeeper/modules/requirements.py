"""Requirements: whether a module type runs a handler where it must run.

Rules of this module:

1. No requirements are met by every module type; requirements that this host cannot read in full are met by none.
2. A trusted execution environment is met by an offer of the same type and a common region. An empty list of regions in
   the requirement means any. Of several entries of one type in a requirement the first decides, as in the reference
   (chainlink-common, ``workflows/host/tee_provider.go``).
3. What has no type offers and requires nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    TEE_TYPE_UNSPECIFIED,
    Requirements,
    Tee,
    TeeType,
    TeeTypeAndRegions,
)

__all__ = ["has_unknown_fields", "needs_offers", "satisfied"]


def needs_offers(requirements: Requirements | None) -> bool:
    """Return whether a module type must be asked for its offers to tell whether it meets them."""
    return requirements is not None and not has_unknown_fields(requirements) and requirements.HasField("tee")


def satisfied(requirements: Requirements | None, offers: Iterable[TeeTypeAndRegions]) -> bool:
    """Return whether requirements are met.

    Args:
        requirements: What a subscription requires; None for nothing.
        offers: What a module type offers, now.
    """
    if requirements is None:
        return True
    if has_unknown_fields(requirements):
        return False
    if not requirements.HasField("tee"):
        return True
    regions: dict[TeeType.ValueType, set[str]] = {}
    for offer in offers:
        if offer.type != TEE_TYPE_UNSPECIFIED:
            regions.setdefault(offer.type, set()).update(offer.regions)
    return any(_accepts(requirements.tee, type_, offered) for type_, offered in regions.items())


def has_unknown_fields(message: Message) -> bool:
    """Return whether a message, or one inside it, says something that this host cannot read."""
    if len(UnknownFieldSet(message)):
        return True
    return any(
        has_unknown_fields(inner)
        for field, value in message.ListFields()
        if field.message_type is not None
        for inner in (value if field.is_repeated else [value])
    )


def _accepts(tee: Tee, type_: TeeType.ValueType, offered: Collection[str]) -> bool:
    match tee.WhichOneof("item"):
        case "any_regions":
            return _overlap(tee.any_regions.regions, offered)
        case "tee_types_and_regions":
            for entry in tee.tee_types_and_regions.tee_type_and_regions:
                if entry.type == type_:
                    return _overlap(entry.regions, offered)
            return False
        case None:
            return False


def _overlap(required: Collection[str], offered: Collection[str]) -> bool:
    return not required or any(region in offered for region in required)

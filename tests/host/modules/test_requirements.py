"""Whether a module type meets a handler's requirements."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.modules.requirements import has_unknown_fields, needs_offers, satisfied
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    Regions,
    Requirements,
    Restrictions,
    SecretRestriction,
    SecretsRestritions,
    Tee,
    TeeType,
    TeeTypeAndRegions,
    TeeTypesAndRegions,
)

KNOWN = TeeType.ValueType(1)
OTHER = TeeType.ValueType(2)  # of a newer protocol
UNSPECIFIED = TeeType.ValueType(0)


def offer(type_: TeeType.ValueType, *regions: str) -> TeeTypeAndRegions:
    return TeeTypeAndRegions(type=type_, regions=regions)


def any_of(*regions: str) -> Requirements:
    return Requirements(tee=Tee(any_regions=Regions(regions=regions)))


def types(*entries: TeeTypeAndRegions) -> Requirements:
    return Requirements(tee=Tee(tee_types_and_regions=TeeTypesAndRegions(tee_type_and_regions=entries)))


def newer(message: Requirements) -> Requirements:
    """Return requirements as a newer SDK would write them: with a field that nobody here knows."""
    return Requirements.FromString(message.SerializeToString() + b"\x7a\x01x")


def newer_inside() -> Requirements:
    # tee (1) with any_regions (1), and beside the regions a field 15.
    return Requirements.FromString(b"\x0a\x05\x0a\x03\x7a\x01x")


HERE = [offer(KNOWN, "here", "there")]


@pytest.mark.parametrize(
    ("requirements", "offers", "met"),
    [
        (None, [], True),
        (None, HERE, True),
        (Requirements(), [], True),
        (any_of(), [], False),
        (any_of(), HERE, True),
        (any_of(), [offer(KNOWN)], True),
        (any_of("here"), HERE, True),
        (any_of("elsewhere", "there"), HERE, True),
        (any_of("elsewhere"), HERE, False),
        (any_of("HERE"), HERE, False),
        (any_of("here"), [offer(KNOWN)], False),
        (any_of("here"), [offer(UNSPECIFIED, "here")], False),
        (any_of(), [offer(UNSPECIFIED)], False),
        (any_of("elsewhere"), [*HERE, offer(OTHER, "elsewhere")], True),
        (types(), HERE, False),
        (types(offer(KNOWN)), HERE, True),
        (types(offer(KNOWN, "here")), HERE, True),
        (types(offer(KNOWN, "elsewhere")), HERE, False),
        (types(offer(OTHER)), HERE, False),
        (types(offer(OTHER), offer(KNOWN, "there")), HERE, True),
        (types(offer(UNSPECIFIED)), [offer(UNSPECIFIED)], False),
        # Of several entries of one type the first decides.
        (types(offer(KNOWN, "elsewhere"), offer(KNOWN, "here")), HERE, False),
        # Offers of one type are taken together.
        (types(offer(KNOWN, "there")), [offer(KNOWN, "here"), offer(KNOWN, "there")], True),
        # Nothing inside the requirement, or something that this host cannot read.
        (Requirements(tee=Tee()), HERE, False),
        (newer(Requirements()), HERE, False),
        (newer(any_of()), HERE, False),
        (newer_inside(), HERE, False),
    ],
)
def test_what_meets_what(requirements: Requirements | None, offers: Sequence[TeeTypeAndRegions], met: bool) -> None:
    assert satisfied(requirements, offers) is met


@pytest.mark.parametrize(
    ("requirements", "needs"),
    [(None, False), (Requirements(), False), (any_of(), True), (types(), True), (newer(any_of()), False)],
)
def test_offers_are_needed_only_where_they_decide(requirements: Requirements | None, needs: bool) -> None:
    assert needs_offers(requirements) is needs


@settings(deadline=None)
@given(st.binary())
def test_requirements_from_anyone_are_met_by_nothing_that_offers_nothing(data: bytes) -> None:
    requirements = Requirements()
    try:
        requirements.ParseFromString(data)
    except Exception:  # noqa: BLE001 - protobuf's own errors: the bytes are no requirements
        return
    assert satisfied(requirements, []) is (requirements == Requirements())


def test_unknown_fields_are_found_at_any_depth() -> None:
    known = Restrictions(secrets=SecretsRestritions(restrictions=[SecretRestriction(), SecretRestriction()]))
    assert not has_unknown_fields(known)
    inside = Restrictions.FromString(b"\x0a\x05\x0a\x03\x7a\x01x")
    assert has_unknown_fields(inside)

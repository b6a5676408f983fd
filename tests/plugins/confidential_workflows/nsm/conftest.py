"""A simulated NSM with a clock that tests turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import define

from innkeeper_confidential_workflows.attestation import Attestation, Expectations, verify
from innkeeper_confidential_workflows.nsm import Authority, NsmClient, SimulatedNsm

PCRS = {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48, 4: b"\x05" * 48}


@define
class Clock:
    """Tells the time that it is set to."""

    now: datetime = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, span: timedelta) -> None:
        self.now += span


class Direct:
    """A transport without anything between."""

    def __init__(self, nsm: SimulatedNsm) -> None:
        self.exchange = nsm.handle


@define
class Bench:
    """An NSM, its authority and its clock."""

    clock: Clock
    authority: Authority
    nsm: SimulatedNsm
    client: NsmClient

    def verify(self, document: bytes, **expect: object) -> Attestation:
        return verify(document, now=self.clock(), roots=[self.authority.root], expect=Expectations(**expect))


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def bench(clock: Clock) -> Bench:
    """Return a simulated NSM and what a test needs beside it."""
    authority = Authority.create(clock=clock)
    nsm = SimulatedNsm(authority, module_id="i-INSECURE-SIM-0123-enc", pcrs=PCRS, clock=clock)
    return Bench(clock, authority, nsm, NsmClient(Direct(nsm)))

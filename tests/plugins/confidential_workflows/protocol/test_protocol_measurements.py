"""Whom documents are trusted by."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from innkeeper_confidential_workflows.attestation import (
    Attestation,
    AttestationError,
    Code,
    Expectations,
    Measurement,
    Root,
    Tee,
    verify,
)
from innkeeper_confidential_workflows.nsm import Authority, NsmClient
from innkeeper_confidential_workflows.nsm.certificates import issue_root
from innkeeper_confidential_workflows.protocol import FirstMeasurement, ReferenceTrust, Trust, trust_for
from innkeeper_confidential_workflows.protocol.measurements import PIN_NAME
from innkeeper_sdk.errors import VerificationError
from tests.plugins.confidential_workflows.protocol.protocol_world import World

LOGGER = logging.getLogger("measurements")


@pytest.fixture
def trust(tmp_path: Path) -> FirstMeasurement:
    return FirstMeasurement(tmp_path / "own" / PIN_NAME, LOGGER)


def nothing(_: Attestation) -> None:
    """Accept anything."""


def verified(
    world: World,
    trust: Trust,
    enclave: NsmClient | None = None,
    *,
    document: bytes | None = None,
    accept: Callable[[Attestation], None] = nothing,
) -> Attestation:
    data = (enclave or world.enclave()).attest() if document is None else document
    return trust.verify(data, now=world.clock.now, expect=Expectations(), accept=accept)


def refused(world: World, trust: Trust, enclave: NsmClient | None = None, **changes: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        verified(world, trust, enclave, **changes)
    return caught.value.code


def test_the_first_simulated_enclave_is_trusted_and_a_warning_says_so(
    world: World, trust: FirstMeasurement, caplog: pytest.LogCaptureFixture
) -> None:
    assert verified(world, trust).tee is Tee.SIM
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "development only" in record.getMessage()
    assert world.pcrs()[0].hex() in record.getMessage()
    verified(world, trust)
    assert len(caplog.records) == 1


def test_what_is_pinned_is_this_users_alone_and_outlives_the_process(world: World, trust: FirstMeasurement) -> None:
    verified(world, trust)
    assert trust.path.stat().st_mode & 0o777 == 0o600
    assert trust.path.parent.stat().st_mode & 0o777 == 0o700
    again = FirstMeasurement(trust.path, LOGGER)
    verified(world, again)
    assert refused(world, again, world.enclave(pcrs=world.pcrs("two"))) is Code.MEASUREMENT_UNKNOWN


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_second_measurement_that_differs_in_one_register_is_refused(
    world: World, trust: FirstMeasurement, index: int
) -> None:
    verified(world, trust)
    other = {**world.pcrs(), index: world.pcrs("two")[index]}
    assert refused(world, trust, world.enclave(pcrs=other)) is Code.MEASUREMENT_UNKNOWN


def test_registers_of_the_instance_may_differ(world: World, trust: FirstMeasurement) -> None:
    verified(world, trust)
    verified(world, trust, world.enclave(pcrs={**world.pcrs(), 4: b"\x04" * 48}))


def test_another_root_is_refused_after_the_first(world: World, trust: FirstMeasurement) -> None:
    verified(world, trust)
    other = world.enclave(authority=Authority.create(clock=world.clock))
    assert refused(world, trust, other) is Code.UNTRUSTED_CHAIN


def test_a_debug_enclave_is_never_first(world: World, trust: FirstMeasurement) -> None:
    debug = world.enclave(pcrs={index: bytes(48) for index in (0, 1, 2, 8)})
    assert refused(world, trust, debug) is Code.DEBUG_ENCLAVE
    assert not trust.path.exists()


def test_a_stale_document_is_never_first(world: World, trust: FirstMeasurement) -> None:
    document = world.enclave().attest()
    world.clock.forward(timedelta(minutes=6).total_seconds())
    assert refused(world, trust, document=document) is Code.STALE
    assert not trust.path.exists()


def test_nothing_is_pinned_if_the_caller_does_not_accept(world: World, trust: FirstMeasurement) -> None:
    def accept(_: Attestation) -> None:
        raise AttestationError(Code.NONCE_MISMATCH, "not mine")

    assert refused(world, trust, accept=accept) is Code.NONCE_MISMATCH
    assert not trust.path.exists()
    verified(world, trust)


def test_the_caller_is_asked_of_later_documents_too(world: World, trust: FirstMeasurement) -> None:
    def accept(_: Attestation) -> None:
        raise AttestationError(Code.NONCE_MISMATCH, "not mine")

    verified(world, trust)
    assert refused(world, trust, accept=accept) is Code.NONCE_MISMATCH


def test_a_changed_document_is_refused_first_and_later(world: World, trust: FirstMeasurement) -> None:
    document = bytearray(world.enclave().attest())
    document[-1] ^= 1
    assert refused(world, trust, document=bytes(document)) is Code.BAD_SIGNATURE
    assert not trust.path.exists()
    verified(world, trust)
    assert refused(world, trust, document=bytes(document)) is Code.BAD_SIGNATURE


def test_a_root_that_does_not_say_that_it_is_a_simulation_is_refused(world: World, trust: FirstMeasurement) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    simulated = issue_root(key, world.clock.now)
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Amazon")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(simulated.not_valid_before_utc)
        .not_valid_after(simulated.not_valid_after_utc)
    )
    for extension in simulated.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    root = builder.sign(key, SHA384())
    document = world.enclave(authority=Authority(root, key, clock=world.clock)).attest()
    # Nothing else is wrong with it.
    roots = [Root(root.public_bytes(Encoding.DER), Tee.SIM)]
    assert verify(document, now=world.clock.now, roots=roots, expect=Expectations())
    assert refused(world, trust, document=document) is Code.UNTRUSTED_CHAIN
    assert not trust.path.exists()


def test_of_two_enclaves_that_come_first_at_once_one_is_trusted(tmp_path: Path, world: World) -> None:
    enclaves = [world.enclave(pcrs=world.pcrs(name)) for name in ("one", "two")]
    for attempt in range(10):
        path = tmp_path / str(attempt) / PIN_NAME
        start = threading.Barrier(2)

        def come(enclave: NsmClient, path: Path = path, start: threading.Barrier = start) -> str:
            document = enclave.attest()
            start.wait()
            try:
                verified(world, FirstMeasurement(path, LOGGER), document=document)
            except AttestationError as error:
                return error.code.value
            return "trusted"

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(come, enclaves)) == ["measurement_unknown", "trusted"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "null",
        "[" * 10_000,
        '{"v": 1, "root": "", "pcrs": {}}',
        '{"v": 2, "root": "AA==", "pcrs": {"0": "", "1": "", "2": ""}}',
        '{"v": 1, "root": 1, "pcrs": {"0": 1, "1": 1, "2": 1}}',
    ],
)
def test_a_damaged_pin_is_an_error_and_stays(world: World, trust: FirstMeasurement, content: str) -> None:
    trust.path.parent.mkdir(mode=0o700)
    trust.path.touch(mode=0o600)
    trust.path.write_text(content)
    with pytest.raises(VerificationError, match="first measurement is damaged"):
        verified(world, trust)
    assert trust.path.read_text() == content


@pytest.mark.parametrize("change", [{"0": "00" * 48}, {"1": "aa"}, {"3": "aa" * 48}, {"2": "zz" * 48}])
def test_a_pin_with_registers_that_are_none_is_damaged(
    world: World, trust: FirstMeasurement, change: dict[str, str]
) -> None:
    verified(world, trust)
    content = json.loads(trust.path.read_text())
    content["pcrs"].update(change)
    trust.path.write_text(json.dumps(content))
    with pytest.raises(VerificationError):
        verified(world, trust)


def test_a_pin_that_others_can_read_or_replace_is_an_error(world: World, trust: FirstMeasurement) -> None:
    verified(world, trust)
    trust.path.chmod(0o644)
    with pytest.raises(VerificationError, match="open to others"):
        verified(world, trust)
    trust.path.chmod(0o600)
    trust.path.parent.chmod(0o755)
    with pytest.raises(VerificationError, match="open to others"):
        verified(world, trust)
    trust.path.parent.chmod(0o700)
    os.rename(trust.path, trust.path.with_name("real"))
    trust.path.symlink_to("real")
    with pytest.raises(Exception, match="private file"):
        verified(world, trust)


def test_in_production_a_simulated_enclave_is_refused_and_nothing_is_pinned(tmp_path: Path, world: World) -> None:
    trust = trust_for("production", tmp_path, LOGGER)
    assert trust == ReferenceTrust()
    assert refused(world, trust) is Code.UNTRUSTED_CHAIN
    assert list(tmp_path.iterdir()) == []


def test_in_production_what_was_pinned_in_development_counts_for_nothing(tmp_path: Path, world: World) -> None:
    verified(world, trust_for("development", tmp_path, LOGGER))
    assert refused(world, trust_for("production", tmp_path, LOGGER)) is Code.UNTRUSTED_CHAIN


def test_in_production_a_reference_value_does_not_make_a_simulation_trusted(world: World) -> None:
    trust = ReferenceTrust([Measurement({index: world.pcrs()[index] for index in (0, 1, 2)})])
    assert refused(world, trust) is Code.UNTRUSTED_CHAIN


@pytest.mark.parametrize("environment", ["", "Production", "test", "dev"])
def test_an_environment_that_is_neither_is_refused(tmp_path: Path, environment: str) -> None:
    with pytest.raises(AttestationError) as caught:
        trust_for(environment, tmp_path, LOGGER)
    assert caught.value.code is Code.INSECURE_BACKEND

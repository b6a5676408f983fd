"""The certificates of a document: what is trusted, what is not, and what has merely run out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from innkeeper_confidential_workflows.attestation import Expectations, explain

UNTRUSTED = ("untrusted_chain", "chain")
ROOT, REGION, ZONE, INSTANCE, LEAF = range(5)


def resigned(forge: Any, fields: dict[str, Any]) -> tuple[str, str]:
    verdict: tuple[str, str] = forge.verdict(forge.wrap(cbor2.dumps(fields)))
    return verdict


def test_the_chain_of_five_is_trusted(forge: Any) -> None:
    assert forge.verdict(forge.document())[0] == "ok"


# --- roots -----------------------------------------------------------------------------------------------------------


def test_no_root_trusts_nothing(forge: Any) -> None:
    report = explain(forge.document(), now=forge.now, roots=[], expect=Expectations())

    assert (report.verdict, report.steps[-1].name) == ("untrusted_chain", "root")


def test_a_chain_of_ones_own_is_not_trusted_for_its_names(forge: Any) -> None:
    own = forge.chain(forge.levels)

    assert forge.verdict(own.document()) == ("untrusted_chain", "root")


def test_a_chain_of_ones_own_is_not_trusted_for_the_trusted_root_in_front_of_it(forge: Any) -> None:
    own = forge.chain(forge.levels)
    bundle = [forge.pki.der[0], *own.pki.der[1:-1]]

    assert forge.verdict(own.document(cabundle=bundle)) == UNTRUSTED


def test_a_leaf_of_ones_own_is_not_trusted_below_a_trusted_bundle(forge: Any) -> None:
    own = forge.chain(forge.levels)

    assert forge.verdict(own.document(cabundle=forge.pki.der[:-1])) == UNTRUSTED


def test_a_root_that_differs_by_its_encoding_alone_is_another_root(forge: Any) -> None:
    root = forge.pki.certificates[0]
    twin = (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(root.issuer)
        .public_key(root.public_key())
        .serial_number(root.serial_number)
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(forge.pki.keys[0], hashes.SHA384())
        .public_bytes(Encoding.DER)
    )

    assert forge.verdict(forge.document(cabundle=[twin, *forge.pki.der[1:-1]])) == ("untrusted_chain", "root")


def test_the_verdict_does_not_depend_on_the_order_of_the_roots(forge: Any) -> None:
    other = forge.chain(forge.levels).pki.root

    for roots in ([other, forge.pki.root], [forge.pki.root, other]):
        report = explain(forge.document(), now=forge.now, roots=roots, expect=Expectations())
        assert report.verdict == "ok"


# --- the bundle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 0, 2, 3), (1, 2, 3)], ids=["reversed", "swapped", "no root"])
def test_a_bundle_that_does_not_begin_with_the_root_is_not_trusted(forge: Any, order: tuple[int, ...]) -> None:
    bundle = [forge.pki.der[index] for index in order]

    assert forge.verdict(forge.document(cabundle=bundle)) == ("untrusted_chain", "root")


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 1, 3, 2), (0, 3, 2, 1)], ids=str)
def test_the_bundle_is_in_order(forge: Any, order: tuple[int, ...]) -> None:
    bundle = [forge.pki.der[index] for index in order]

    assert forge.verdict(forge.document(cabundle=bundle)) == UNTRUSTED


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_no_intermediate_may_be_missing(forge: Any, missing: int) -> None:
    bundle = [der for index, der in enumerate(forge.pki.der[:-1]) if index != missing]

    assert forge.verdict(forge.document(cabundle=bundle)) == UNTRUSTED


@pytest.mark.parametrize("again", [0, 1, 2, 3])
@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_no_certificate_may_be_there_that_is_not_needed(forge: Any, again: int, place: int) -> None:
    bundle = forge.pki.der[:-1]
    bundle.insert(place, bundle[again])

    assert forge.verdict(forge.document(cabundle=bundle)) == UNTRUSTED


def test_the_leaf_is_no_part_of_the_bundle(forge: Any) -> None:
    assert forge.verdict(forge.document(cabundle=forge.pki.der)) == UNTRUSTED


def test_a_bundle_has_at_most_six_certificates(forge: Any) -> None:
    bundle = forge.pki.der[:-1]

    assert forge.verdict(forge.document(cabundle=bundle + bundle[1:3])) == UNTRUSTED
    assert forge.verdict(forge.document(cabundle=bundle + bundle[1:4])) == ("untrusted_chain", "root")


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_there_may_be_at_most_three_authorities_between_root_and_leaf(forge: Any, length: int) -> None:
    levels = list(forge.levels)
    middle = [type(levels[1])(f"authority {index}") for index in range(length)]
    long = forge.chain((levels[0], *middle, levels[-1]))

    assert long.verdict(long.document()) == (("ok", "public_key") if length <= 3 else UNTRUSTED)


# --- keys and signatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [REGION, ZONE, INSTANCE, LEAF])
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_every_key_is_on_p384(forge: Any, index: int, curve: ec.EllipticCurve) -> None:
    other = forge.changed(index, curve=curve)
    signature = b"\x01" * 96

    document = other.wrap(cbor2.dumps(other.fields()), signature=signature)

    assert other.verdict(document) == ("untrusted_chain", "certificates")


@pytest.mark.parametrize("index", [REGION, ZONE, INSTANCE, LEAF])
@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA512()], ids=lambda digest: digest.name)
def test_every_signature_below_the_root_is_over_sha384(forge: Any, index: int, digest: hashes.HashAlgorithm) -> None:
    other = forge.changed(index, digest=digest)

    assert other.verdict(other.document()) == ("untrusted_chain", "certificates")


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_keys_of_other_kinds_are_not_trusted(forge: Any, kind: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
    leaf = forge.pki.certificates[-1]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .sign(forge.pki.keys[-2], hashes.SHA384())
        .public_bytes(Encoding.DER)
    )

    assert forge.verdict(forge.document(certificate=certificate)) == ("untrusted_chain", "certificates")


@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_a_certificate_with_another_signature_is_not_trusted(forge: Any, index: int) -> None:
    der = bytearray(forge.pki.der[index])
    der[-1] ^= 1  # the last byte of s
    fields = forge.fields()
    if index == LEAF:
        fields["certificate"] = bytes(der)
    else:
        fields["cabundle"] = [*fields["cabundle"][:index], bytes(der), *fields["cabundle"][index + 1 :]]

    assert resigned(forge, fields) == UNTRUSTED


@pytest.mark.parametrize("garbage", [b"\x30\x00", b"certificate", b"\x30\x82\x03\xff" + b"\0" * 1019], ids=len)
def test_what_is_no_certificate_is_malformed(forge: Any, garbage: bytes) -> None:
    bundle = forge.pki.der[:-1]

    assert forge.verdict(forge.document(certificate=garbage)) == ("malformed", "certificates")
    assert forge.verdict(forge.document(cabundle=[*bundle[:3], garbage])) == ("malformed", "certificates")


def test_nothing_may_follow_a_certificate_in_its_field(forge: Any) -> None:
    certificate = forge.pki.der[-1] + b"\0"

    assert forge.verdict(forge.document(certificate=certificate)) == ("malformed", "certificates")


# --- dates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [ROOT, REGION, ZONE, INSTANCE, LEAF])
def test_a_certificate_outside_its_window_has_expired_early_or_late(forge: Any, index: int) -> None:
    hour = timedelta(hours=1)
    late = forge.changed(index, not_before=forge.now - 2 * hour, not_after=forge.now - hour)
    early = forge.changed(index, not_before=forge.now + hour, not_after=forge.now + 2 * hour)

    assert late.verdict(late.document()) == ("expired_chain", "chain")
    assert early.verdict(early.document()) == ("expired_chain", "chain")


def test_a_window_has_both_its_ends(forge: Any) -> None:
    level = forge.levels[-1]

    assert forge.verdict(forge.document(), now=level.not_after)[0] == "stale"
    assert forge.verdict(forge.document(), now=level.not_after + timedelta(microseconds=1))[0] == "expired_chain"
    assert forge.verdict(forge.document(), now=level.not_before)[0] == "ok"
    assert forge.verdict(forge.document(), now=level.not_before - timedelta(microseconds=1))[0] == "expired_chain"


def test_a_forged_chain_is_untrusted_also_when_it_has_expired(forge: Any) -> None:
    own = forge.chain(forge.levels)
    document = own.document(cabundle=[forge.pki.der[0], *own.pki.der[1:-1]])

    assert forge.verdict(document, now=forge.now + timedelta(days=1)) == UNTRUSTED


# --- constraints, usages, extensions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "length"), [(ROOT, 2), (REGION, 1), (REGION, 0), (ZONE, 0)])
def test_a_path_may_not_be_longer_than_an_authority_allows(forge: Any, index: int, length: int) -> None:
    other = forge.changed(index, path_length=length)

    assert other.verdict(other.document()) == UNTRUSTED


@pytest.mark.parametrize("index", [REGION, ZONE, INSTANCE])
@pytest.mark.parametrize(
    "changes",
    [
        {"usage": ("digital_signature", "crl_sign")},
        {"usage": None},
        {"usage_critical": False},
        {"ca": False, "path_length": None},
        {"constraints": False},
        {"constraints_critical": False},
    ],
    ids=str,
)
def test_an_issuer_is_an_authority_that_may_sign_certificates(forge: Any, index: int, changes: dict[str, Any]) -> None:
    other = forge.changed(index, **changes)

    assert other.verdict(other.document()) == UNTRUSTED


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": ("content_commitment",)},
        {"usage": ("key_cert_sign",)},
        {"usage": None},
        {"ca": True},
        {"constraints": False},
    ],
    ids=str,
)
def test_the_leaf_is_no_authority_and_may_sign_documents(forge: Any, changes: dict[str, Any]) -> None:
    other = forge.changed(LEAF, **changes)

    assert other.verdict(other.document()) == UNTRUSTED


@pytest.mark.parametrize("changes", [{"usage_critical": True}, {"constraints_critical": False}], ids=str)
def test_what_is_critical_of_the_leaf_does_not_matter(forge: Any, changes: dict[str, Any]) -> None:
    other = forge.changed(LEAF, **changes)

    assert other.verdict(other.document())[0] == "ok"


@pytest.mark.parametrize("index", [ROOT, REGION, ZONE, INSTANCE, LEAF])
def test_an_extension_that_nobody_knows_is_refused_if_it_is_critical(forge: Any, index: int) -> None:
    extension = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.32473.99"), b"\x05\x00")
    critical = forge.changed(index, extensions=((extension, True),))
    other = forge.changed(index, extensions=((extension, False),))

    assert critical.verdict(critical.document()) == UNTRUSTED
    assert other.verdict(other.document())[0] == "ok"


@pytest.mark.parametrize("index", [REGION, ZONE, INSTANCE])
def test_names_that_an_authority_excludes_are_checked_or_refused(forge: Any, index: int) -> None:
    name = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")]))
    extension = x509.NameConstraints(permitted_subtrees=[name], excluded_subtrees=None)
    other = forge.changed(index, extensions=((extension, True),))

    assert other.verdict(other.document()) == UNTRUSTED


def test_a_leaf_does_not_vouch_for_a_leaf(forge: Any) -> None:
    levels = list(forge.levels)
    own = forge.chain((*levels[:3], levels[-1], type(levels[-1])("second", ca=False, usage=("digital_signature",))))

    assert own.verdict(own.document()) == UNTRUSTED

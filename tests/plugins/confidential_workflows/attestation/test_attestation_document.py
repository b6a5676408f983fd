"""Reading a document: every rule of its encoding and of its fields, and that nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from innkeeper_confidential_workflows.attestation import MAX_DOCUMENT, AttestationError, peek_root
from innkeeper_confidential_workflows.attestation.document import parse

TAGS = (0, 1, 2, 3, 4, 5, 16, 17, 19, 21, 24, 25, 28, 29, 30, 35, 36, 37, 64, 96, 98, 256, 258, 260, 1004, 55799, 2**40)


def test_a_right_document_is_read(forge: Any) -> None:
    document = forge.document(nonce=b"n" * 32, user_data=b"u", public_key=b"k")

    envelope, claims = parse(document)

    assert claims.module_id == "i-INSECURE-SIM-test"
    assert (claims.nonce, claims.user_data, claims.public_key) == (b"n" * 32, b"u", b"k")
    assert claims.unknown_keys == 0
    assert cbor2.loads(envelope.payload)["nonce"] == b"n" * 32
    assert forge.verify(document).nonce == b"n" * 32


# --- the outer array -------------------------------------------------------------------------------------------------


def test_tag_18_is_optional(forge: Any) -> None:
    assert forge.verdict(b"\xd2" + forge.document())[0] == "ok"


def test_tag_18_is_taken_once_and_in_its_shortest_form_only(forge: Any) -> None:
    assert forge.verdict(b"\xd2\xd2" + forge.document()) == ("malformed", "encoding")
    assert forge.verdict(b"\xd8\x12" + forge.document()) == ("malformed", "encoding")


@pytest.mark.parametrize("tag", TAGS)
def test_no_other_tag_is_taken_around_a_document(forge: Any, tag: int) -> None:
    document = cbor2.dumps(cbor2.CBORTag(tag, cbor2.loads(forge.document())))

    assert forge.verdict(document) == ("malformed", "encoding")


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("part", range(4))
def test_no_tag_is_taken_around_a_part(forge: Any, part: int, tag: int) -> None:
    parts = cbor2.loads(forge.document())
    parts[part] = cbor2.CBORTag(tag, parts[part])

    assert forge.verdict(cbor2.dumps(parts)) == ("malformed", "encoding")


@pytest.mark.parametrize("trailing", [b"\x00", b"\xf6", b"\xff", b"\x84\x44\xa1\x01\x38\x22\xa0"])
def test_nothing_may_follow_a_document(forge: Any, trailing: bytes) -> None:
    assert forge.verdict(forge.document() + trailing) == ("malformed", "encoding")


@pytest.mark.parametrize("length", [0, 1, 2, 5, 100, -1, -96])
def test_no_part_of_a_document_is_one(forge: Any, length: int) -> None:
    assert forge.verdict(forge.document()[:length])[0] == "malformed"


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_document_has_four_parts(forge: Any, count: int) -> None:
    parts = (cbor2.loads(forge.document()) * 2)[:count]

    assert forge.verdict(cbor2.dumps(parts)) == ("malformed", "encoding")


def test_the_outer_array_has_its_length_in_front(forge: Any) -> None:
    document = b"\x9f" + forge.document()[1:] + b"\xff"

    assert forge.verdict(document) == ("malformed", "encoding")


@pytest.mark.parametrize("value", [None, 1, "text", b"bytes", {}, True, 1.5])
def test_what_is_no_array_is_no_document(forge: Any, value: Any) -> None:
    assert forge.verdict(cbor2.dumps(value)) == ("malformed", "encoding")


@pytest.mark.parametrize("part", [0, 2, 3])
@pytest.mark.parametrize("kind", ["array of numbers", "text", "null", "number", "indefinite"])
def test_parts_are_byte_strings(forge: Any, part: int, kind: str) -> None:
    parts = [cbor2.dumps(value) for value in cbor2.loads(forge.document())]
    value: bytes = cbor2.loads(parts[part])
    parts[part] = {
        "array of numbers": cbor2.dumps(list(value)),
        "text": cbor2.dumps(value.hex()),
        "null": b"\xf6",
        "number": b"\x01",
        "indefinite": b"\x5f" + parts[part] + b"\xff",
    }[kind]

    assert forge.verdict(b"\x84" + b"".join(parts)) in (("malformed", "encoding"), ("too_large", "size"))


# --- headers and signature -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "protected",
    [
        b"",
        b"\xa0",
        cbor2.dumps({1: -7}),
        cbor2.dumps({1: -36}),
        cbor2.dumps({1: 35}),
        cbor2.dumps({1: "ES384"}),
        cbor2.dumps({1: -35.0}),
        cbor2.dumps({1: [-35]}),
        cbor2.dumps({1: None}),
        cbor2.dumps({"1": -35}),
        cbor2.dumps({"alg": -35}),
        cbor2.dumps({True: -35}),
        cbor2.dumps({1.0: -35}),
        cbor2.dumps({2: -35}),
        cbor2.dumps({1: -35, 4: b"kid"}),
        cbor2.dumps({1: -35, 2: []}),
        cbor2.dumps({4: b"kid", 1: -35}),
        cbor2.dumps([1, -35]),
        bytes.fromhex("a2013822013822"),
        bytes.fromhex("a201260 13822".replace(" ", "")),
        bytes.fromhex("a2f53822013822"),
        bytes.fromhex("bf013822ff"),
        bytes.fromhex("a1013822a0"),
        bytes.fromhex("a101c1 3822".replace(" ", "")),
        bytes.fromhex("d2a1013822"),
        bytes.fromhex("44a1013822"),
    ],
    ids=bytes.hex,
)
def test_the_protected_header_is_es384_and_nothing_else(forge: Any, protected: bytes) -> None:
    document = forge.wrap(cbor2.dumps(forge.fields()), protected=protected)

    assert forge.verdict(document) == ("malformed", "headers")


@pytest.mark.parametrize("unprotected", [{1: -35}, {4: b"kid"}, {"junk": 1}, {33: b"x5chain"}, {1: -7}], ids=str)
def test_the_unprotected_header_is_empty(forge: Any, unprotected: dict[Any, Any]) -> None:
    assert forge.verdict(forge.wrap(cbor2.dumps(forge.fields()), unprotected=unprotected)) == ("malformed", "headers")


@pytest.mark.parametrize("unprotected", [b"\x80", b"\x40", b"\xf6", b"\x00", b"\xbf\xff"], ids=bytes.hex)
def test_the_unprotected_header_is_a_map(forge: Any, unprotected: bytes) -> None:
    parts = [cbor2.dumps(value) for value in cbor2.loads(forge.document())]
    parts[1] = unprotected

    assert forge.verdict(b"\x84" + b"".join(parts)) == ("malformed", "encoding")


@pytest.mark.parametrize("length", [0, 1, 64, 95, 97, 132])
def test_the_signature_has_96_bytes(forge: Any, length: int) -> None:
    document = forge.wrap(cbor2.dumps(forge.fields()), signature=b"\x01" * length)

    assert forge.verdict(document) == ("malformed", "headers")


def test_a_signature_in_der_is_refused(forge: Any) -> None:
    payload = cbor2.dumps(forge.fields())
    signature = forge.sign(payload, forge.pki.keys[-1])
    der = encode_dss_signature(int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big"))

    assert forge.verdict(forge.wrap(payload, signature=der)) == ("malformed", "headers")


@pytest.mark.parametrize(
    ("algorithm", "curve", "digest"),
    [(-7, ec.SECP256R1(), hashes.SHA256()), (-36, ec.SECP521R1(), hashes.SHA512())],
    ids=["ES256", "ES512"],
)
def test_documents_of_other_algorithms_are_refused_however_well_they_are_signed(
    forge: Any, algorithm: int, curve: ec.EllipticCurve, digest: hashes.HashAlgorithm
) -> None:
    protected = cbor2.dumps({1: algorithm})
    other = forge.changed(-1, curve=curve)
    payload = cbor2.dumps(other.fields())
    signature = other.sign(payload, other.pki.keys[-1], protected=protected, digest=digest)

    assert other.verdict(other.wrap(payload, protected=protected, signature=signature)) == ("malformed", "headers")
    assert other.verdict(other.wrap(payload, signature=signature[:96].ljust(96, b"\0"))) == (
        "untrusted_chain",
        "certificates",
    )


# --- sizes -----------------------------------------------------------------------------------------------------------


def padded(forge: Any, size: int) -> bytes:
    """Return a right payload of some size, by a key that nobody knows."""
    spare = size - len(cbor2.dumps(forge.fields(padding=b"\0" * 1000))) + 1000
    payload = cbor2.dumps(forge.fields(padding=b"\0" * spare))
    assert len(payload) == size
    return payload


def test_a_payload_of_16_kib_is_taken_and_not_a_byte_more(forge: Any) -> None:
    assert forge.verdict(forge.wrap(padded(forge, 16 * 1024)))[0] == "ok"
    assert forge.verdict(forge.wrap(padded(forge, 16 * 1024 + 1))) == ("too_large", "headers")


def test_a_document_of_18_kib_is_read_and_not_a_byte_more(forge: Any) -> None:
    assert forge.verdict(b"\0" * MAX_DOCUMENT) == ("malformed", "encoding")
    assert forge.verdict(b"\0" * (MAX_DOCUMENT + 1)) == ("too_large", "size")
    assert forge.verdict(forge.wrap(padded(forge, 18 * 1024))) == ("too_large", "size")


def test_an_empty_payload_is_refused(forge: Any) -> None:
    assert forge.verdict(forge.wrap(b"")) == ("malformed", "headers")


# --- the payload's encoding ------------------------------------------------------------------------------------------


def test_a_map_without_a_length_is_taken(forge: Any) -> None:
    payload = b"\xbf" + b"".join(key + value for key, value in forge.pairs()) + b"\xff"

    assert forge.verdict(forge.wrap(payload))[0] == "ok"


def test_the_payload_counts_as_it_was_sent_and_not_as_it_would_be_encoded(forge: Any) -> None:
    payload = b"\xbf" + b"".join(key + value for key, value in forge.pairs()) + b"\xff"
    signature = forge.sign(cbor2.dumps(cbor2.loads(payload)), forge.pki.keys[-1])

    assert forge.verdict(forge.wrap(payload, signature=signature)) == ("bad_signature", "signature")


@pytest.mark.parametrize("trailing", [b"\x00", b"\xf6", b"\xff", b"\xa0"], ids=bytes.hex)
def test_nothing_may_follow_the_payloads_map(forge: Any, trailing: bytes) -> None:
    assert forge.verdict(forge.wrap(cbor2.dumps(forge.fields()) + trailing)) == ("malformed", "payload")


@pytest.mark.parametrize("value", [[], 1, "text", None, True, b"bytes"], ids=str)
def test_the_payload_is_a_map(forge: Any, value: Any) -> None:
    assert forge.verdict(forge.wrap(cbor2.dumps(value))) == ("malformed", "payload")


@pytest.mark.parametrize(
    "key",
    [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
        "public_key",
        "user_data",
        "nonce",
        "unknown",
    ],
)
@pytest.mark.parametrize("shape", ["definite", "indefinite"])
def test_no_key_may_come_twice_even_with_the_same_value(forge: Any, key: str, shape: str) -> None:
    pairs = forge.pairs(unknown=1)
    pairs.append(next(pair for pair in pairs if pair[0] == cbor2.dumps(key)))
    body = b"".join(key + value for key, value in pairs)
    payload = forge.head(5, len(pairs)) + body if shape == "definite" else b"\xbf" + body + b"\xff"

    assert forge.verdict(forge.wrap(payload)) == ("malformed", "payload")


def test_a_key_may_not_come_twice_in_two_encodings(forge: Any) -> None:
    pairs = [*forge.pairs(), (b"\x78\x05nonce", cbor2.dumps(b"other"))]

    assert forge.verdict(forge.wrap(forge.raw_map(pairs))) == ("malformed", "payload")


def test_no_pcr_may_come_twice(forge: Any) -> None:
    value = cbor2.dumps(b"\x01" * 48)
    pcrs = forge.raw_map([*((cbor2.dumps(index), value) for index in range(16)), (b"\x18\x00", value)])
    pairs = [(key, pcrs if key == cbor2.dumps("pcrs") else item) for key, item in forge.pairs()]

    assert forge.verdict(forge.wrap(forge.raw_map(pairs))) == ("malformed", "payload")


@pytest.mark.parametrize(
    "key",
    [
        "USER_DATA",
        "User_Data",
        "u\u017fer_data",
        "NONCE",
        "Nonce",
        "Public_Key",
        "public_\u212aey",
        "PCRs",
        "Module_ID",
    ],
)
def test_a_key_that_is_a_known_one_but_for_its_case_is_refused(forge: Any, key: str) -> None:
    assert forge.verdict(forge.document(**{key: None})) == ("malformed", "payload")


def test_keys_that_nobody_knows_are_ignored_and_counted(forge: Any) -> None:
    report = forge.explain(forge.document(extra=[1, {"a": b"b"}], another=None, flag=True, half=1.5))

    assert report.verdict == "ok"
    assert report.claims.unknown_keys == 4
    assert "4 unknown keys" in next(step.detail for step in report.steps if step.name == "fields")


@pytest.mark.parametrize("key", [1, b"nonce", None, True, 1.5, (1, 2)], ids=str)
def test_keys_of_the_payload_are_texts(forge: Any, key: Any) -> None:
    pairs = [*forge.pairs(), (cbor2.dumps(key), b"\x01")]

    assert forge.verdict(forge.wrap(forge.raw_map(pairs))) == ("malformed", "payload")


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("where", ["module_id", "timestamp", "certificate", "user_data", "unknown", "pcr", "cabundle"])
def test_no_tag_is_taken_inside_the_payload(forge: Any, where: str, tag: int) -> None:
    fields = forge.fields(user_data=b"u", unknown=b"x")
    match where:
        case "pcr":
            fields["pcrs"] = {**fields["pcrs"], 0: cbor2.CBORTag(tag, fields["pcrs"][0])}
        case "cabundle":
            fields["cabundle"] = [cbor2.CBORTag(tag, fields["cabundle"][0]), *fields["cabundle"][1:]]
        case _:
            fields[where] = cbor2.CBORTag(tag, fields[where])

    assert forge.verdict(forge.wrap(cbor2.dumps(fields))) == ("malformed", "payload")


def test_containers_nest_four_deep_and_not_five(forge: Any) -> None:
    # The payload's map is the first.
    assert forge.verdict(forge.document(extra=[[[1]]]))[0] == "ok"
    assert forge.verdict(forge.document(extra=[[[[1]]]])) == ("malformed", "payload")
    assert forge.verdict(forge.document(extra={"a": {"b": {"c": 1}}}))[0] == "ok"
    assert forge.verdict(forge.document(extra={"a": {"b": {"c": {"d": 1}}}})) == ("malformed", "payload")


@pytest.mark.parametrize("opening", [b"\x81", b"\x9f", b"\xa1\x00", b"\xbf\x00", b"\xc1", b"\xd2"], ids=bytes.hex)
def test_what_nests_without_end_is_refused(forge: Any, opening: bytes) -> None:
    assert forge.verdict(opening * (9000 // len(opening)))[0] == "malformed"
    assert forge.verdict(forge.wrap(opening * (9000 // len(opening)))) == ("malformed", "payload")


@pytest.mark.parametrize("head", ["5b", "7b", "9b", "bb"])
@pytest.mark.parametrize("length", ["ffffffffffffffff", "7fffffffffffffff", "00000000ffffffff", "0000000100000000"])
def test_a_length_that_nothing_follows_costs_nothing(forge: Any, head: str, length: str) -> None:
    item = bytes.fromhex(head + length)

    assert forge.verdict(item) == ("malformed", "encoding")
    assert forge.verdict(b"\x84" + item) == ("malformed", "encoding")
    assert forge.verdict(forge.wrap(item)) == ("malformed", "payload")
    assert forge.verdict(forge.wrap(b"\xa1\x61a" + item)) == ("malformed", "payload")


def test_a_text_that_is_no_utf8_is_refused(forge: Any) -> None:
    pairs = [(key, b"\x62\xff\xfe" if key == cbor2.dumps("module_id") else value) for key, value in forge.pairs()]

    assert forge.verdict(forge.wrap(forge.raw_map(pairs))) == ("malformed", "payload")


# --- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"])
def test_a_mandatory_field_is_neither_left_out_nor_null(forge: Any, field: str) -> None:
    assert forge.verdict(forge.document(**{field: ...})) == ("malformed", "payload")
    assert forge.verdict(forge.document(**{field: None})) == ("malformed", "fields")


@pytest.mark.parametrize("field", ["public_key", "user_data", "nonce"])
def test_an_optional_field_may_be_left_out_or_null(forge: Any, field: str) -> None:
    assert getattr(forge.verify(forge.document(**{field: ...})), field) is None
    assert getattr(forge.verify(forge.document(**{field: None})), field) is None


@pytest.mark.parametrize("field", ["public_key", "user_data", "nonce"])
def test_an_optional_field_has_at_most_1024_bytes(forge: Any, field: str) -> None:
    assert getattr(forge.verify(forge.document(**{field: b"x" * 1024})), field) == b"x" * 1024
    assert forge.verdict(forge.document(**{field: b"x" * 1025})) == ("malformed", "fields")


def test_user_data_and_nonce_may_be_empty_and_a_public_key_may_not(forge: Any) -> None:
    found = forge.verify(forge.document(user_data=b"", nonce=b""))

    assert (found.user_data, found.nonce) == (b"", b"")
    assert forge.verdict(forge.document(public_key=b"")) == ("malformed", "fields")


@pytest.mark.parametrize("field", ["public_key", "user_data", "nonce", "certificate"])
@pytest.mark.parametrize("value", [[1, 2, 3], "text", 1, True, {}, 1.5, [b"x"]], ids=str)
def test_byte_strings_are_nothing_else(forge: Any, field: str, value: Any) -> None:
    assert forge.verdict(forge.document(**{field: value})) == ("malformed", "fields")


def test_undefined_is_not_null(forge: Any) -> None:
    assert forge.verdict(forge.document(nonce=cbor2.undefined)) == ("malformed", "fields")


@pytest.mark.parametrize("value", ["", b"i-1", 1, ["i-1"]], ids=str)
def test_the_module_id_is_a_text_with_something_in_it(forge: Any, value: Any) -> None:
    assert forge.verdict(forge.document(module_id=value)) == ("malformed", "fields")


@pytest.mark.parametrize("value", ["SHA256", "SHA512", "sha384", "SHA-384", "SHA384 ", "", b"SHA384", 384], ids=str)
def test_the_digest_is_exactly_sha384(forge: Any, value: Any) -> None:
    assert forge.verdict(forge.document(digest=value)) == ("malformed", "fields")


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1", b"\x01", 1767472867402.0], ids=str)
def test_the_timestamp_is_a_positive_number(forge: Any, value: Any) -> None:
    assert forge.verdict(forge.document(timestamp=value)) == ("malformed", "fields")


@pytest.mark.parametrize("value", [1, 2**63, 2**64 - 1], ids=str)
def test_a_timestamp_of_any_age_is_a_number_that_is_stale(forge: Any, value: int) -> None:
    assert forge.verdict(forge.document(timestamp=value)) == ("stale", "freshness")


def test_there_are_1_to_32_pcrs(forge: Any) -> None:
    assert forge.verdict(forge.document(pcrs={index: b"\x01" * 48 for index in range(32)}))[0] == "ok"
    assert forge.verdict(forge.document(pcrs={index: b"\x01" * 48 for index in range(33)})) == ("malformed", "fields")
    assert forge.verdict(forge.document(pcrs={})) == ("malformed", "fields")


@pytest.mark.parametrize("index", [-1, 32, 2**40, "0", b"\x00", True, 0.5, None], ids=str)
def test_pcrs_are_numbered_from_0_to_31(forge: Any, index: Any) -> None:
    pcrs = {2: b"\x01" * 48, 3: b"\x01" * 48, index: b"\x01" * 48}

    assert forge.verdict(forge.document(pcrs=pcrs)) == ("malformed", "fields")


@pytest.mark.parametrize("length", [0, 1, 31, 33, 47, 49, 63, 65])
def test_a_pcr_has_the_length_of_a_digest(forge: Any, length: int) -> None:
    pcrs = {**forge.fields()["pcrs"], 5: b"\x01" * length}

    assert forge.verdict(forge.document(pcrs=pcrs)) == ("malformed", "fields")


@pytest.mark.parametrize("length", [32, 48, 64])
def test_pcrs_of_other_digests_are_well_formed(forge: Any, length: int) -> None:
    pcrs = {**forge.fields()["pcrs"], 5: b"\x01" * length}

    assert forge.verdict(forge.document(pcrs=pcrs))[0] == "ok"


@pytest.mark.parametrize("pcrs", [[b"\x01" * 48] * 16, "pcrs", 1, {0: [1] * 48}, {0: "1" * 48}, {0: None}], ids=str)
def test_pcrs_are_a_map_to_byte_strings(forge: Any, pcrs: Any) -> None:
    assert forge.verdict(forge.document(pcrs=pcrs)) == ("malformed", "fields")


@pytest.mark.parametrize("length", [0, 1025])
def test_a_certificate_has_1_to_1024_bytes(forge: Any, length: int) -> None:
    item = b"\x30" * length
    bundle = forge.fields()["cabundle"]

    assert forge.verdict(forge.document(certificate=item)) == ("malformed", "fields")
    assert forge.verdict(forge.document(cabundle=[*bundle[:2], item])) == ("malformed", "fields")


@pytest.mark.parametrize("bundle", [[], {}, b"bundle", [1], ["x"], [[1, 2]], [None]], ids=str)
def test_the_bundle_is_an_array_of_byte_strings(forge: Any, bundle: Any) -> None:
    assert forge.verdict(forge.document(cabundle=bundle)) == ("malformed", "fields")


# --- trust on first use ----------------------------------------------------------------------------------------------


def test_peeking_at_the_root_reads_it_and_believes_nothing(forge: Any) -> None:
    document = forge.wrap(cbor2.dumps(forge.fields()), signature=b"\0" * 96)

    assert peek_root(document) == forge.pki.der[0]
    assert forge.verdict(document)[0] == "bad_signature"


@pytest.mark.parametrize(
    ("document", "code"), [(b"", "malformed"), (b"\x84", "malformed"), (b"\0" * 20000, "too_large")], ids=str
)
def test_peeking_refuses_what_is_no_document(document: bytes, code: str) -> None:
    with pytest.raises(AttestationError) as refused:
        peek_root(document)

    assert refused.value.code == code


def test_only_bytes_are_looked_at(forge: Any) -> None:
    with pytest.raises(TypeError, match="bytearray"):
        peek_root(bytearray(forge.document()))  # type: ignore[arg-type]  # what is tested

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.signing import peer_id_payload

# Output of the public Go code for these prefixes and messages.
_HEAD = (
    "20202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020"
    "202020202020202020202020726167657032702061726269747261727920"
    "6d657373616765207369676e696e6700"
)
GOLDEN = [
    (
        "CONFIDENTIAL_COMPUTE_PAYLOAD_",
        "7fde55e0893c448204f234f73bd7a849f42f6d2ed42aa01654b47817188c7b44",
        _HEAD + "000000000000001d434f4e464944454e5449414c5f434f4d505554455f5041594c4f41445f"
        "0000000000000000207fde55e0893c448204f234f73bd7a849f42f6d2ed42aa01654b47817188c7b44",
    ),
    (
        "CONFIDENTIAL_RELAY_PAYLOAD_",
        "5a09d06b083b408f65242d66b6ea3fadca126da4a5a8a0b9d317f3ef7276aaf2",
        _HEAD + "000000000000001b434f4e464944454e5449414c5f52454c41595f5041594c4f41445f"
        "0000000000000000205a09d06b083b408f65242d66b6ea3fadca126da4a5a8a0b9d317f3ef7276aaf2",
    ),
]
PREFIX = "cw-grant/1"
HEAD = b" " * 64 + b"ragep2p arbitrary message signing\x00" + b"\x00" * 7 + b"\x0a" + PREFIX.encode()


@pytest.mark.parametrize(("prefix", "message", "payload"), GOLDEN)
def test_the_payload_is_that_of_the_go_code(prefix: str, message: str, payload: str) -> None:
    assert peer_id_payload(prefix, bytes.fromhex(message)).hex() == payload


@pytest.mark.parametrize("size", [0, 1, 1024])
def test_a_message_of_up_to_1024_bytes_stands_in_the_payload(size: int) -> None:
    message = b"m" * size

    assert peer_id_payload(PREFIX, message) == HEAD + b"\x00" + size.to_bytes(8, "big") + message


def test_a_longer_message_stands_as_its_digest() -> None:
    message = b"m" * 1025

    assert peer_id_payload(PREFIX, message) == HEAD + b"\x01" + hashlib.sha256(message).digest()


def test_a_prefix_counts_in_bytes() -> None:
    assert (2).to_bytes(8, "big") + "é".encode() in peer_id_payload("é", b"")


def test_an_empty_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a prefix"):
        peer_id_payload("", b"m")


@given(st.text(min_size=1), st.binary(max_size=40), st.text(min_size=1), st.binary(max_size=40))
def test_no_two_pairs_share_a_payload(prefix: str, message: bytes, other: str, body: bytes) -> None:
    same = peer_id_payload(prefix, message) == peer_id_payload(other, body)

    assert same == ((prefix, message) == (other, body))

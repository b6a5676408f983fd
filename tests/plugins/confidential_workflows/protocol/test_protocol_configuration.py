"""The enclave's configuration and what is measured of it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import CONFIG_PCR, EnclaveConfig, cbor
from tests.plugins.confidential_workflows.protocol.protocol_world import World

CONFIG = EnclaveConfig(host_key=b"\x01" * 32, vault_key=b"\x02" * 32)


def test_what_is_encoded_comes_back() -> None:
    assert EnclaveConfig.decode(CONFIG.encode()) == CONFIG


def test_hash_and_extension_are_of_the_canonical_form() -> None:
    data = cbor.encode({"host_key": b"\x01" * 32, "v": 1, "vault_key": b"\x02" * 32})
    assert CONFIG.encode() == data
    assert CONFIG.hash == hashlib.sha256(data).digest()
    assert CONFIG.extension == hashlib.sha384(b"cw-config/1" + data).digest()


def test_the_register_of_an_enclave_is_the_one_expected(world: World) -> None:
    state = world.enclave().describe(CONFIG_PCR)
    assert state.locked
    assert state.value == world.config.pcr


def test_each_key_changes_both() -> None:
    others = [
        EnclaveConfig(host_key=b"\x03" * 32, vault_key=b"\x02" * 32),
        EnclaveConfig(host_key=b"\x01" * 32, vault_key=b"\x03" * 32),
        EnclaveConfig(host_key=b"\x02" * 32, vault_key=b"\x01" * 32),
    ]
    assert len({config.hash for config in (CONFIG, *others)}) == 4
    assert len({config.pcr for config in (CONFIG, *others)}) == 4


@pytest.mark.parametrize(
    "change",
    [{"v": 0}, {"host_key": b""}, {"vault_key": "x"}, {"vault_key": None}, {"more": 1}, {"host_key": b"x" * 33}],
)
def test_anything_else_is_malformed(change: dict[str, Any]) -> None:
    value = {"host_key": b"\x01" * 32, "v": 1, "vault_key": b"\x02" * 32, **change}
    with pytest.raises(AttestationError) as caught:
        EnclaveConfig.decode(cbor.encode(value))
    assert caught.value.code is Code.MALFORMED

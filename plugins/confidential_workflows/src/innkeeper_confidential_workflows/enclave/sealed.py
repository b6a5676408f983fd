"""What the monitor hands an execution that awaits secrets: the vault's answers, unopened, and what opens them.

The execution's side of :mod:`innkeeper_confidential_workflows.enclave.child`; the two run the same code, so what cannot
be read here is a fault and no input.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import asdict, field, frozen

from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.fields import mapping_of
from innkeeper_confidential_workflows.protocol.sealing import PUBLIC_KEY_BYTES

__all__ = ["SealedAnswers", "SealedCall", "join_question", "split_question"]

_MAX_BYTES: Final = 64 * 1024 * 1024
# As many calls as an execution may have (``innkeeper_wasm.pending``), each with its five fields.
_MAX_ITEMS: Final = 128 * 1024
_KEYS: Final = frozenset({"vault_key", "calls"})


@frozen(kw_only=True)
class SealedCall:
    """The answer to one request for secrets.

    Attributes:
        id: The guest's id of it.
        request: The body that was sent, an encoded ``SecretsBody``; empty if the guest named nothing that can be one.
        nonce: Of its challenge.
        release: What the vault answered.
        signature: The vault's.
    """

    id: int
    request: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    release: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@frozen(kw_only=True)
class SealedAnswers:
    """The answers to the requests that a guest awaits.

    Attributes:
        vault_key: The vault's key, from the enclave's configuration.
        calls: In the order of the guest's await.
    """

    vault_key: bytes
    calls: tuple[SealedCall, ...]

    def encode(self) -> bytes:
        """Return the answers as they are handed over."""
        calls: list[dict[str, Any]] = [asdict(call) for call in self.calls]
        return cbor.encode({"v": 1, "vault_key": self.vault_key, "calls": calls})

    @classmethod
    def decode(cls, data: bytes) -> SealedAnswers:
        """Return the answers that were handed over."""
        content = mapping_of(data, _KEYS, limit=_MAX_BYTES, what="the sealed answers", items=_MAX_ITEMS)
        return cls(vault_key=content["vault_key"], calls=tuple(SealedCall(**call) for call in content["calls"]))


def join_question(public_key: bytes, request: bytes) -> bytes:
    """Return what an execution asks the monitor for: its public key (44 bytes), then the guest's GetSecretsRequest."""
    return public_key + request


def split_question(data: bytes) -> tuple[bytes, bytes]:
    """Return public key and request of a question; a guest that has broken out may send anything."""
    return data[:PUBLIC_KEY_BYTES], data[PUBLIC_KEY_BYTES:]

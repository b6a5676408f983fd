"""The enclave's configuration: whose grants and whose replies are believed.

Rules of this module:

1. The enclave extends PCR 16 by it at its start and locks it, and every body carries its hash: code that is right with
   a configuration that is not gets nothing.
2. It is public; what makes it trustworthy is that the verifier compares it with its own.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Self

from attrs import asdict, field, frozen

from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.fields import VERSION, mapping_of, sized
from innkeeper_confidential_workflows.protocol.signatures import PUBLIC_KEY_BYTES

__all__ = ["CONFIG_PCR", "EnclaveConfig"]

# The first of those that an enclave may extend by itself.
CONFIG_PCR: Final = 16

_LABEL: Final = b"cw-config/1"
_MAX_BYTES: Final = 1024
_KEYS: Final = frozenset({"host_key", "vault_key"})


@frozen(kw_only=True)
class EnclaveConfig:
    """The configuration that an enclave is started with.

    Attributes:
        host_key: The host's Ed25519 key, which signs grants and replies: 32 bytes.
        vault_key: The vault's Ed25519 key, which signs releases: 32 bytes.
    """

    host_key: bytes = field(validator=sized(PUBLIC_KEY_BYTES))
    vault_key: bytes = field(validator=sized(PUBLIC_KEY_BYTES))

    def encode(self) -> bytes:
        """Return the configuration as it is sent and measured."""
        content: dict[str, Any] = asdict(self)
        return cbor.encode({"v": VERSION, **content})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the record of a configuration.

        Raises:
            AttestationError: ``malformed`` or ``too_large``.
        """
        return cls(**mapping_of(data, _KEYS, limit=_MAX_BYTES, what="the configuration"))

    @property
    def hash(self) -> bytes:
        """Return what bodies carry: SHA-256, 32 bytes."""
        return hashlib.sha256(self.encode()).digest()

    @property
    def extension(self) -> bytes:
        """Return what PCR 16 is extended by: SHA-384, 48 bytes."""
        return hashlib.sha384(_LABEL + self.encode()).digest()

    @property
    def pcr(self) -> bytes:
        """Return what PCR 16 then is: 48 bytes."""
        return hashlib.sha384(bytes(48) + self.extension).digest()

"""A Nitro Security Module that is none: it speaks like one, and signs with a key of its own.

Rules of this module:

1. Requests, answers, refusals and documents are those of the real device: the payload is a map without a length, fields
   that are not used are null, and the document has no tag.
2. The limits are the device's, which are tighter than the verifier's for nonce and user data.
3. Every request gets an answer. What cannot be answered is ``InternalError``, and the log says why.
4. Its module id says that it is a simulation, as do all its certificates.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from innkeeper_confidential_workflows.nsm.authority import Authority, Clock, utc_now
from innkeeper_confidential_workflows.nsm.messages import (
    DIGEST,
    PCR_COUNT,
    RANDOM_BYTES,
    ErrorCode,
    NsmError,
    encode_answer,
    encode_error,
    read_request,
)
from innkeeper_confidential_workflows.nsm.pcrs import Pcrs

__all__ = ["MODULE_PREFIX", "SimulatedNsm"]

MODULE_PREFIX: Final = "i-INSECURE-SIM-"

_MAX_USER_DATA: Final = 512  # bytes
_MAX_NONCE: Final = 512  # bytes
_MAX_PUBLIC_KEY: Final = 1024  # bytes
# The version of the interface that is simulated.
_VERSION: Final = (1, 0, 0)
# COSE_Sign1's protected header: algorithm ES384.
_PROTECTED: Final = cbor2.dumps({1: -35})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)


class SimulatedNsm:
    """The NSM of one simulated enclave.

    Args:
        authority: Signs for it.
        module_id: The enclave's id; it must begin with ``i-INSECURE-SIM-``.
        pcrs: What was measured before the enclave starts: index up to 15, to 48 bytes.
        clock: Returns the time, with a time zone.

    Raises:
        ValueError: Module id or registers are not such.
    """

    def __init__(
        self, authority: Authority, *, module_id: str, pcrs: Mapping[int, bytes], clock: Clock = utc_now
    ) -> None:
        if not module_id.startswith(MODULE_PREFIX):
            raise ValueError(f"the module id {module_id!r} does not begin with {MODULE_PREFIX}")
        self._authority = authority
        self._module_id = module_id
        self._clock = clock
        self._pcrs = Pcrs(pcrs)
        self._lock = Lock()
        self._requests: dict[str, Callable[..., dict[str, Any]]] = {
            "DescribePCR": self._describe_pcr,
            "ExtendPCR": self._extend_pcr,
            "LockPCR": self._lock_pcr,
            "LockPCRs": self._lock_pcrs,
            "DescribeNSM": self._describe_nsm,
            "Attestation": self._attestation,
            "GetRandom": self._get_random,
        }

    def handle(self, request_cbor: bytes) -> bytes:
        """Return the answer to a request.

        Args:
            request_cbor: What the enclave sent; anything.
        """
        try:
            request = read_request(request_cbor)
            with self._lock:
                fields = self._requests[request.name](**request.fields)
            return encode_answer(request.name, fields)
        except NsmError as error:
            return encode_error(error.code)
        except Exception:  # noqa: BLE001 - the enclave must get an answer; what happened is in the log
            _log.exception("the simulated NSM could not answer a request of %d bytes", len(request_cbor))
            return encode_error(ErrorCode.INTERNAL_ERROR)

    def _describe_pcr(self, index: int) -> dict[str, Any]:
        locked, value = self._pcrs.describe(index)
        return {"lock": locked, "data": value}

    def _extend_pcr(self, index: int, data: bytes) -> dict[str, Any]:
        return {"data": self._pcrs.extend(index, data)}

    def _lock_pcr(self, index: int) -> dict[str, Any]:
        self._pcrs.lock(index)
        return {}

    def _lock_pcrs(self, range: int) -> dict[str, Any]:
        self._pcrs.lock_range(range)
        return {}

    def _describe_nsm(self) -> dict[str, Any]:
        major, minor, patch = _VERSION
        return {
            "version_major": major,
            "version_minor": minor,
            "version_patch": patch,
            "module_id": self._module_id,
            "max_pcrs": PCR_COUNT,
            "locked_pcrs": list(self._pcrs.locked),
            "digest": DIGEST,
        }

    def _get_random(self) -> dict[str, Any]:
        return {"random": os.urandom(RANDOM_BYTES)}

    def _attestation(self, user_data: bytes | None, nonce: bytes | None, public_key: bytes | None) -> dict[str, Any]:
        for name, value, most in (
            ("user_data", user_data, _MAX_USER_DATA),
            ("nonce", nonce, _MAX_NONCE),
            ("public_key", public_key, _MAX_PUBLIC_KEY),
        ):
            if value is not None and len(value) > most:
                raise NsmError(ErrorCode.INPUT_TOO_LARGE, f"{name} has {len(value)} bytes, more than {most}")
        if public_key == b"":
            raise NsmError(ErrorCode.INVALID_ARGUMENT, "the public key is empty")
        chain = self._authority.chain()
        payload = _open_map(
            {
                "module_id": self._module_id,
                "digest": DIGEST,
                "timestamp": (self._clock() - _EPOCH) // timedelta(milliseconds=1),
                "pcrs": self._pcrs.attested(),
                "certificate": chain.leaf,
                "cabundle": [self._authority.root_certificate, *chain.authorities],
                "public_key": public_key,
                "user_data": user_data,
                "nonce": nonce,
            }
        )
        return {"document": _sign(payload, chain.key)}


def _open_map(fields: dict[str, Any]) -> bytes:
    """Return a map without a length in front, as real documents have had since July 2025."""
    return b"\xbf" + b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in fields.items()) + b"\xff"


def _sign(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    signed = cbor2.dumps(["Signature1", _PROTECTED, b"", payload])
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA384())))
    return cbor2.dumps([_PROTECTED, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])

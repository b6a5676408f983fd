"""Challenges: what makes an attestation document good for one purpose, one execution, once.

Rules of this module:

1. A challenge is used up by the first try, whatever comes of it, and before anything is released. Of two that race for
   one, exactly one gets it.
2. Nonces are kept as their hashes. Challenges are kept in memory only: those of an earlier process are unknown, and
   what is unknown is refused.
3. A full table refuses new challenges; it never forgets one that is live. Used ones are remembered for as long as they
   would have lived, as far as there is room, and only so that a second use is called by its name.
4. A challenge has run out when either clock says so: the wall clock may be set back.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from hmac import compare_digest
from typing import Final, Self

from attrs import field, frozen

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.protocol.bodies import Body, CapabilityBody, ResultBody, SecretsBody
from innkeeper_confidential_workflows.protocol.errors import malformed, refusal
from innkeeper_confidential_workflows.protocol.fields import CHALLENGE_ID_BYTES, NONCE_BYTES, hex_or_empty, lower_hex

__all__ = ["Challenge", "Challenges", "IssuedChallenge", "Purpose"]

_STEP: Final = "challenge"


class Purpose(IntEnum):
    """What a challenge may be used for; the numbers are those of the protocol's messages."""

    SECRETS = 1
    CAPABILITY = 2
    RESULT = 3

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the purpose of a number.

        Raises:
            AttestationError: ``malformed``: there is none.
        """
        try:
            return cls(number)
        except ValueError:
            raise malformed("the purpose is none") from None

    @classmethod
    def for_body(cls, kind: type[Body]) -> Purpose:
        """Return what bodies of a kind need a challenge for."""
        return _PURPOSES[kind]


_PURPOSES: Final[Mapping[type[Body], Purpose]] = {
    SecretsBody: Purpose.SECRETS,
    CapabilityBody: Purpose.CAPABILITY,
    ResultBody: Purpose.RESULT,
}


@frozen
class Challenge:
    """A challenge as it is handed out.

    Attributes:
        id: 16 bytes.
        nonce: 32 bytes, which the document carries.
        expires: When it has run out.
    """

    id: bytes
    nonce: bytes = field(repr=False)
    expires: datetime

    @property
    def expires_ms(self) -> int:
        """Return when it has run out, in milliseconds since the epoch."""
        return int(self.expires.timestamp() * 1000)


@frozen
class _For:
    workflow_id: str = field(validator=lower_hex(64))
    execution_id: str = field(validator=hex_or_empty(64))
    purpose: Purpose


@frozen
class IssuedChallenge:
    """A challenge that has just been used up.

    Attributes:
        issued: When it was handed out: no document for it is older.
    """

    issued: datetime
    _nonce_sha256: bytes = field(repr=False)

    def match(self, nonce: bytes | None) -> None:
        """Refuse another nonce than the one that was handed out.

        Raises:
            AttestationError: ``nonce_mismatch``.
        """
        if nonce is None or not compare_digest(_hashed(nonce), self._nonce_sha256):
            raise refusal(Code.NONCE_MISMATCH, "the nonce is not that of the challenge", step=_STEP)


@frozen
class _Live:
    bound: _For
    issued: datetime
    expires: datetime
    deadline: float
    nonce_sha256: bytes


class Challenges:
    """Hands challenges out, and takes each back once. Safe for threads.

    Args:
        clock: The wall clock; aware datetimes.
        seconds: How long a challenge lives.
        capacity: How many may be live at once.
        monotonic: A clock that nobody sets, in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        seconds: float = 60,
        capacity: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._seconds = seconds
        self._capacity = capacity
        self._lock = threading.Lock()
        # Both in the order in which they run out: all live equally long.
        self._live: OrderedDict[bytes, _Live] = OrderedDict()
        self._used: OrderedDict[bytes, float] = OrderedDict()

    def issue(self, workflow_id: str, execution_id: str, purpose: Purpose) -> Challenge:
        """Hand out a challenge.

        Args:
            workflow_id: 64 hexadecimal digits.
            execution_id: 64 hexadecimal digits; empty while subscribing.
            purpose: What it may be used for.

        Raises:
            AttestationError: ``rate_limited``: too many are live; or ``malformed``.
        """
        bound = _For(workflow_id, execution_id, Purpose.of(purpose))
        id_, nonce = secrets.token_bytes(CHALLENGE_ID_BYTES), secrets.token_bytes(NONCE_BYTES)
        with self._lock:
            now, tick = self._clock(), self._monotonic()
            self._forget(tick)
            if len(self._live) >= self._capacity:
                raise refusal(Code.RATE_LIMITED, "too many challenges are live; ask again later", step=_STEP)
            expires = now + timedelta(seconds=self._seconds)
            self._live[id_] = _Live(bound, now, expires, tick + self._seconds, _hashed(nonce))
        return Challenge(id_, nonce, expires)

    def take(self, id_: bytes, workflow_id: str, execution_id: str, purpose: Purpose) -> IssuedChallenge:
        """Use a challenge up, before its document is verified; then :meth:`IssuedChallenge.match` its nonce.

        Args:
            id_: Its id.
            workflow_id: Whose it must be.
            execution_id: Whose it must be.
            purpose: What it must be for.

        Returns:
            What is left of it.

        Raises:
            AttestationError: ``replayed``: it was used before; or ``nonce_mismatch``: it is unknown, has run out, or
                was handed out to somebody else or for something else.
        """
        with self._lock:
            now = self._clock()
            self._forget(self._monotonic())
            if id_ in self._used:
                raise refusal(Code.REPLAYED, "the challenge was used before", step=_STEP)
            live = self._live.pop(id_, None)
            if live is None:
                raise _unknown()
            if len(self._used) >= self._capacity:
                self._used.popitem(last=False)
            self._used[id_] = live.deadline
        # By the other clock it would have been forgotten.
        if now >= live.expires:
            raise _unknown()
        if live.bound != _For(workflow_id, execution_id, purpose):
            raise refusal(Code.NONCE_MISMATCH, "the challenge was for something else", step=_STEP)
        return IssuedChallenge(live.issued, live.nonce_sha256)

    def _forget(self, tick: float) -> None:
        while self._live and next(iter(self._live.values())).deadline <= tick:
            self._live.popitem(last=False)
        while self._used and next(iter(self._used.values())) <= tick:
            self._used.popitem(last=False)


def _unknown() -> AttestationError:
    return refusal(Code.NONCE_MISMATCH, "the challenge is unknown or has run out", step=_STEP)


def _hashed(nonce: bytes) -> bytes:
    return hashlib.sha256(nonce).digest()

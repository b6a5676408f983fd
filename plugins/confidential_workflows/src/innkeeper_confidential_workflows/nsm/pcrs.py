"""The platform configuration registers of a simulated enclave.

Rules of this module:

1. There are 32. Those up to 15 are measured by whoever starts the enclave and are locked from then on; the enclave may
   extend and lock the others.
2. Extending is SHA-384(old value ‖ data); a locked register refuses it, and is never unlocked.
3. A document has all up to 15, and of the others those that were locked.
4. A simulated measurement starts from a prefix of its own, so that it can never equal that of a real image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from attrs import define

from innkeeper_confidential_workflows.nsm.messages import PCR_BYTES, PCR_COUNT, ErrorCode, NsmError

__all__ = ["FIRST_USER_PCR", "Pcrs", "extended", "simulated_pcr"]

FIRST_USER_PCR: Final = 16

_ZERO: Final = bytes(PCR_BYTES)


def extended(value: bytes, data: bytes) -> bytes:
    """Return what a register holds after it was extended."""
    return hashlib.sha384(value + data).digest()


def simulated_pcr(index: int, data: bytes) -> bytes:
    """Return the simulated measurement of something.

    Args:
        index: The register that it is for; the same data gives each another value.
        data: What is measured, in an encoding that is the only one of its content.
    """
    prefix = hashlib.sha384(f"cw-sim/pcr{index}".encode()).digest()
    return extended(prefix, hashlib.sha384(data).digest())


@define
class _Register:
    value: bytes = _ZERO
    locked: bool = False


class Pcrs:
    """The registers of one enclave.

    Args:
        measured: Values of registers up to 15, 48 bytes each; those not named are zero.

    Raises:
        ValueError: There is no such register, or a value has another length.
    """

    def __init__(self, measured: Mapping[int, bytes]) -> None:
        self._registers = [_Register() for _ in range(PCR_COUNT)]
        for index, value in measured.items():
            if not 0 <= index < FIRST_USER_PCR or len(value) != PCR_BYTES:
                raise ValueError(f"PCR{index} cannot be given {len(value)} bytes before the enclave starts")
            self._registers[index].value = bytes(value)
        for register in self._registers[:FIRST_USER_PCR]:
            register.locked = True

    def describe(self, index: int) -> tuple[bool, bytes]:
        """Return whether a register is locked, and its value."""
        register = self._register(index)
        return register.locked, register.value

    def extend(self, index: int, data: bytes) -> bytes:
        """Extend a register, and return its new value.

        Raises:
            NsmError: There is no such register, or it is locked.
        """
        register = self._open(index)
        register.value = extended(register.value, data)
        return register.value

    def lock(self, index: int) -> None:
        """Lock a register.

        Raises:
            NsmError: There is no such register, or it is locked already.
        """
        self._open(index).locked = True

    def lock_range(self, count: int) -> None:
        """Lock the first registers, whether they are locked already or not.

        Raises:
            NsmError: There are not so many.
        """
        if not 0 <= count <= PCR_COUNT:
            raise NsmError(ErrorCode.INVALID_ARGUMENT, f"there are {PCR_COUNT} PCRs, not {count}")
        for register in self._registers[:count]:
            register.locked = True

    @property
    def locked(self) -> tuple[int, ...]:
        """The locked registers."""
        return tuple(index for index, register in enumerate(self._registers) if register.locked)

    def attested(self) -> dict[int, bytes]:
        """Return what a document says of the registers."""
        return {index: self._registers[index].value for index in self.locked}

    def _register(self, index: int) -> _Register:
        if not 0 <= index < PCR_COUNT:
            raise NsmError(ErrorCode.INVALID_INDEX, f"there is no PCR{index}")
        return self._registers[index]

    def _open(self, index: int) -> _Register:
        register = self._register(index)
        if register.locked:
            raise NsmError(ErrorCode.READ_ONLY_INDEX, f"PCR{index} is locked")
        return register

"""Measuring a bundle: the registers that an enclave starts with.

Rules of this module:

1. PCR 0 is all that the enclave can load, PCR 1 how it is started, PCR 2 our own packages.
2. A file counts with its name, its permissions and its content, each hashed behind its length, in the order of names.
3. Nothing is remembered from an earlier start: what is measured is what is there now.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from collections.abc import Mapping
from typing import Final

import cbor2

from innkeeper_confidential_workflows.launcher.bundle import INTERPRETER_FLAGS, Bundle, SourceFile
from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.nsm.pcrs import simulated_pcr
from innkeeper_confidential_workflows.protocol.hashing import length_prefixed

__all__ = ["LAUNCHER_VERSION", "measure", "policy"]

LAUNCHER_VERSION: Final = 1
"""To be raised with whatever is changed in how an enclave is started."""

_POLICY: Final[Mapping[str, object]] = {
    "launcher": LAUNCHER_VERSION,
    "interpreter_flags": list(INTERPRETER_FLAGS),
    "environment": ["INNKEEPER_GUARDED", "INNKEEPER_LAUNCH", "LANG"],
    "descriptors": ["host", "nsm", "stderr"],
    "rlimits": {"RLIMIT_CORE": 0},
    "no_new_privs": 1,
    "guests": ["landlock", "no_new_privs", "rlimits", "seccomp"],
}


def measure(bundle: Bundle, module_id: str) -> dict[int, bytes]:
    """Return the registers of an enclave that is about to be started.

    Args:
        bundle: What it can load.
        module_id: The enclave's id, which is its own: PCR 4.

    Returns:
        By their index: 48 bytes each. PCR 3 and PCR 8 stay zero: there is no role, and no signer.

    Raises:
        LaunchError: A file cannot be read.
    """
    entries = [(file.name.partition("/")[0], _entry(file)) for file in bundle.files()]
    ours = {member.name for member in bundle.application}
    return {
        0: simulated_pcr(0, length_prefixed(*(entry for _, entry in entries))),
        1: simulated_pcr(1, policy()),
        2: simulated_pcr(2, length_prefixed(*(entry for member, entry in entries if member in ours))),
        4: simulated_pcr(4, module_id.encode()),
    }


def policy() -> bytes:
    """Return how an enclave is started on this machine, in its one encoding."""
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    return cbor2.dumps({**_POLICY, **machine}, canonical=True)


def _entry(file: SourceFile) -> bytes:
    try:
        with file.path.open("rb", buffering=0) as source:
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
            digest = hashlib.file_digest(source, "sha384").digest()
    except OSError as error:
        raise LaunchError(f"the enclave cannot be measured: {error.strerror}", path=str(file.path)) from error
    return length_prefixed(file.name.encode("utf-8", "surrogateescape"), mode.to_bytes(4, "big"), digest)

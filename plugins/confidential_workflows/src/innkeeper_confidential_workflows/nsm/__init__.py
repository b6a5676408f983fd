"""The Nitro Security Module: what the enclave asks of it, and a simulated one that answers on any machine."""

from __future__ import annotations

from innkeeper_confidential_workflows.nsm.authority import AUTHORITY_FILE, ROOT_FILE, Authority, AuthorityError
from innkeeper_confidential_workflows.nsm.client import NsmClient, PcrState
from innkeeper_confidential_workflows.nsm.messages import ErrorCode, NsmError
from innkeeper_confidential_workflows.nsm.pcrs import extended, simulated_pcr
from innkeeper_confidential_workflows.nsm.simulated import MODULE_PREFIX, SimulatedNsm
from innkeeper_confidential_workflows.nsm.transport import NsmTransport, SeqpacketTransport

__all__ = [
    "AUTHORITY_FILE",
    "MODULE_PREFIX",
    "ROOT_FILE",
    "Authority",
    "AuthorityError",
    "ErrorCode",
    "NsmClient",
    "NsmError",
    "NsmTransport",
    "PcrState",
    "SeqpacketTransport",
    "SimulatedNsm",
    "extended",
    "simulated_pcr",
]

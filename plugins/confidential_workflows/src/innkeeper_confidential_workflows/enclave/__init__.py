"""What runs in the enclave: the monitor, and what it puts into the processes that run guests.

Rules of this package:

1. The monitor is the only one that speaks to the NSM, and holds no plaintext of a secret: sealed bytes pass through it.
2. What an execution may ask for is built from what was registered for it, never from what its guest says.
3. The host is not trusted: what comes from it is bounded, read strictly, and compared with a hash or a signature.
4. Nothing a guest logs, and no metric of it, leaves the enclave: the lines are emptied where they arise, and counted.
"""

"""The launcher: plays the hypervisor of a simulated enclave.

Rules of this package:

1. It measures what the enclave will load, starts it, and answers its NSM requests; it holds the key that signs them.
2. It exists in development only, and says in every document, certificate and log that it is a simulation.
3. Its life is its parent's: when that closes its socket, or the enclave ends, everything ends.
4. It has one thread, and imports neither asyncio nor gRPC, nor what runs guests.
"""

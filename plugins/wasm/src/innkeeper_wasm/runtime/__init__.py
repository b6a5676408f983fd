"""Run guests: root process, compile in a limited child, zygotes, one process per execution, all guest imports.

Rules of this package:

1. It shuffles bytes. What the bytes of a request, a call or a response mean is the business of whoever drives it; so
   it imports neither asyncio nor grpc, protobuf or the SDK, and can run inside an enclave.
2. ``wasmtime`` and ``brotli`` are imported only by the modules that run in the root process and below it
   (:mod:`~innkeeper_wasm.runtime.root` and what it imports). The modules that a driver needs (``control``, ``limits``,
   ``outcome``, ``wire``) are free of them.
3. Every process here has one thread, and dies with the process that forked it.
4. Nothing in a guest's memory is trusted: every pointer and length is checked here, before wasmtime sees it.

The order of processes is: driver → root (imports wasmtime once, runs no guest code) → one compile child per binary, one
zygote per (binary, memory limit) → one child per execution, forked from the zygote inside the guest's first host call.
"""

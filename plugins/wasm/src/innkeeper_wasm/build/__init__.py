"""The command ``innkeeper workflow build``: an official TypeScript workflow in, a workflow binary out.

Rules of this package:

1. It runs in a child process of its own (``innkeeper_sdk.command``), so it may import ``wasmtime`` and
   ``brotli``.
2. The packages of npm, the caches of the official tools and their home directory lie in one build directory;
   nothing is written into the workflow's directory or the user's home.
3. The official compiler runs unmodified. Only the executable that it would download for its last step is ours:
   :mod:`innkeeper_wasm.build.javy_cli`.
4. Every failure names its step (project, node, packages, type-check, bundle, link, output); nothing
   half-written is left where the binary was asked for.
"""

"""The relay: what an enclave may ask of this host, for executions that are live.

Rules of this package:

1. The module opens an execution before it sends its request, and closes it when the answer is there or not. Only in
   between does the relay answer for it: what is not live is refused at once.
2. What is asked names an execution; who it belongs to, and what it runs, is what was registered for it. What the
   enclave says of itself is compared with that, never used instead.
3. Whatever goes further goes through the execution's helper, so that limits, restrictions and the journal hold as they
   do for workflows in the open. Secrets pass through sealed.
4. Nothing that was asked or answered is in any log: ids, codes and sizes are.
"""

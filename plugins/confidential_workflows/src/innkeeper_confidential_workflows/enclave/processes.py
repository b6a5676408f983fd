"""What the launcher does to the enclave's processes, which are also guests' processes.

It adopts whatever outlives its parent below it, so that nothing that an enclave has started is left to anybody else,
and ends it all.
"""

from __future__ import annotations

from innkeeper_wasm.runtime.process import become_subreaper, end_children

__all__ = ["become_subreaper", "end_children"]

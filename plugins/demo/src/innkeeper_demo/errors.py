"""What goes wrong in a demonstration.

Rules of this module: a step that cannot go on raises :class:`StepError`; what was found and does not hold, but lets the
step go on, is noted as a problem instead. Either way the demonstration has failed.
"""

from __future__ import annotations

from innkeeper_sdk.errors import InnkeeperError

__all__ = ["StepError"]


class StepError(InnkeeperError):
    """Raised when a step of the demonstration cannot go on."""

    code = "demo-failed"

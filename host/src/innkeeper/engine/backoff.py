"""How long to wait before the next try: longer after each, up to a limit."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Backoff"]


@frozen
class Backoff:
    """Waiting times that double.

    Attributes:
        first: The first one, in seconds.
        most: The longest one, in seconds.
    """

    first: float
    most: float

    def delay(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row, in seconds; 0 after none."""
        if failures < 1:
            return 0.0
        # The exponent is bounded because a float is not.
        return min(self.most, self.first * 2.0 ** min(failures - 1, 63))

"""Executions per second with four in flight, against the same bare run in one process.

``ratio`` is the worst of the three official guests that reply, log and fetch a secret; the goal is at least 15. The
bare runs are made before and after the executions, so that a machine whose speed drifts does not favour either.

Usage: ``python -m bench.execute_parallel [N]``
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bench.harness import Baseline, build_guest, execute, print_figures, subject, trigger_request

GUESTS = ("reply", "log", "secret")
IN_FLIGHT = 4
BARE_SHARE = 8  # one bare run for so many executions: they take that much longer


async def measure(binary: Path, n: int) -> dict[str, float]:
    """Return executions per second of one guest."""
    request = trigger_request()
    rounds = max(1, n // BARE_SHARE // 2)
    async with subject(binary) as load, Baseline.start(binary, request) as baseline:
        module = await load()
        await execute(module, request)
        bare = [await baseline.run() for _ in range(rounds)]
        left = iter(range(n))

        async def worker() -> None:
            for _ in left:
                await execute(module, request)

        begin = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        executed = n / (time.perf_counter() - begin)
        bare += [await baseline.run() for _ in range(rounds)]
    baseline_rate = len(bare) / sum(bare)
    return {
        "subject": round(executed, 2),
        "baseline": round(baseline_rate, 2),
        "ratio": round(executed / baseline_rate, 2),
    }


async def main() -> None:
    """Measure every guest and print the figures."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    guests = {name: await measure(build_guest(name), n) for name in GUESTS}
    worst = min(guests.values(), key=lambda figures: figures["ratio"])
    print_figures(name="execute_parallel", n=n, unit="executions per second", **worst, guests=guests)


if __name__ == "__main__":
    asyncio.run(main())

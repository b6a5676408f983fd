"""``module.execute`` from an asyncio host, all isolation engaged, against a bare run of the same guest.

Interleaved: a bare run, then an execution, N times for each guest. ``ratio`` is that of medians, the worst of the
three official guests that reply, log and fetch a secret; the goal is at most 0.10. Also reported: a guest with twenty
capability calls (goal at most 1.0), a Go guest where Go is at hand, p99, and what an execution costs without a zygote.

Usage: ``python -m bench.execute [N]``
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from pathlib import Path

from bench.harness import Baseline, build_go_guest, build_guest, execute, print_figures, subject, trigger_request

GUESTS = ("reply", "log", "secret")
COLD_RUNS = 5


async def measure(binary: Path, n: int) -> dict[str, float]:
    """Return the figures of one guest, in seconds."""
    request = trigger_request()
    bare, executed, cold = [], [], []
    async with subject(binary) as load, Baseline.start(binary, request) as baseline:
        module = await load()
        await execute(module, request)
        for _ in range(n):
            bare.append(await baseline.run())
            executed.append(await execute(module, request))
        for _ in range(COLD_RUNS):
            await module.close()
            module = await load()
            cold.append(await execute(module, request))
    subject_seconds, baseline_seconds = statistics.median(executed), statistics.median(bare)
    return {
        "subject": round(subject_seconds, 6),
        "baseline": round(baseline_seconds, 6),
        "ratio": round(subject_seconds / baseline_seconds, 4),
        "p99": round(statistics.quantiles(executed, n=100)[98], 6),
        "cold": round(statistics.median(cold), 6),
    }


async def main() -> None:
    """Measure every guest and print the figures."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    guests = {name: await measure(build_guest(name), n) for name in GUESTS}
    worst = max((guests[name] for name in GUESTS), key=lambda figures: figures["ratio"])
    guests["calls"] = await measure(build_guest("calls"), n)
    go = build_go_guest()
    guests["go"] = await measure(go, n) if go else {}
    print_figures(
        name="execute", n=n, subject=worst["subject"], baseline=worst["baseline"], ratio=worst["ratio"], guests=guests
    )


if __name__ == "__main__":
    asyncio.run(main())

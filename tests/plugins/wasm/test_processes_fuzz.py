"""Guests that call anything with any numbers: the driver gets an outcome by the deadline, and goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innkeeper_wasm.driver import EndingKind, GuestLimits, Runtime

NUMBERS = (
    st.sampled_from([0, 1, 2, 3, 8, 21, 48, 64, 128, 129, 0x10000, 0x20000, 0x3FFF8, 0x3FFFF, 0x40000, 0x40001])
    | st.sampled_from([-1, -8, -(1 << 31), (1 << 31) - 1, 0x7FFFFFFC, 100_000_000 // 48])
    | st.integers(-(1 << 31), (1 << 31) - 1)
)
ENDS = {EndingKind.EXIT, EndingKind.RETURN, EndingKind.TRAP, EndingKind.DEADLINE}


def test_no_guest_hurts_its_host(guests: Any, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        runtime = runner.run(_runtime(tmp_path))
        execute = guests.executor(runtime)
        execute_wide = guests.executor(runtime)

        # Everything but what never ends.
        names = sorted(guests.OPERATIONS.keys() - {"loop", "recurse", "fill"})
        programs = st.lists(st.tuples(st.sampled_from(names), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=12)

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(
            program=programs,
            data=st.binary(max_size=200),
            answer=st.binary(max_size=300),
            refused=st.sets(st.sampled_from(["call_capability", "await_capabilities", "now", "node_time"])),
            parameters=st.sampled_from([2, 4]),
        )
        def check(program: list[Any], data: bytes, answer: bytes, refused: set[str], parameters: int) -> None:
            answers: dict[str, Any] = {"await_secrets": answer, "await_capabilities": answer}
            answers |= {name: guests.CallRefused(name) for name in refused}
            host = guests.Host(guests.assemble(program, data), **answers)
            limits = GuestLimits(metrics=True, message_bytes=100_000)
            run = execute if parameters == 2 else execute_wide
            # Only a poll can take time; one that was told to sleep for years is ended.
            seconds = 0.3 if any(name == "poll_oneoff" for name, *_ in program) else 20
            outcome = runner.run(run(guests.interpreter(parameters), host, limits=limits, seconds=seconds))
            assert outcome.kind in ENDS
            assert outcome.seconds < 22

        check()
        stats = runtime.stats()
        assert stats.root is not None
        runner.run(runtime.close())


async def _runtime(folder: Path) -> Runtime:
    return Runtime(folder / "modules")

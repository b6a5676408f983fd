"""How an execution ended, and the error text that its caller gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.runtime.outcome import MAX_TEXT_BYTES, REPORTABLE, Ending, EndingKind, failure


@pytest.mark.parametrize(
    ("ending", "responded", "text"),
    [
        (Ending(kind=EndingKind.EXIT), True, None),
        (Ending(kind=EndingKind.EXIT), False, "could not find response for execution"),
        (Ending(kind=EndingKind.RETURN), True, None),
        (Ending(kind=EndingKind.RETURN), False, "could not find response for execution"),
        (Ending(kind=EndingKind.EXIT, code=110), True, "invariant violation: error marshaling response"),
        (Ending(kind=EndingKind.EXIT, code=111), True, "invariant violation: invalid request to runner"),
        (Ending(kind=EndingKind.EXIT, code=112), True, "error executing runner"),
        (Ending(kind=EndingKind.EXIT, code=113), True, "invariant violation: host errored during sendResponse"),
        (Ending(kind=EndingKind.EXIT, code=2), True, "wasm exited with exit status 2"),
        (Ending(kind=EndingKind.TRAP, text="unreachable"), True, "unreachable"),
        (Ending(kind=EndingKind.LINK, text="error linking wasm: x"), False, "error linking wasm: x"),
        (Ending(kind=EndingKind.HOST_PANIC, text="boom"), True, "panic during wasm execution: boom"),
        (Ending(kind=EndingKind.DEADLINE), True, "context deadline exceeded"),
        (Ending(kind=EndingKind.PREFIX_DEADLINE, text="slow"), False, "context deadline exceeded: slow"),
        (Ending(kind=EndingKind.CRASHED, signal=11, text="killed by SIGSEGV"), True, "killed by SIGSEGV"),
        (Ending(kind=EndingKind.LOST, text="lost"), False, "lost"),
        (Ending(kind=EndingKind.TRAP), False, "trap"),
    ],
)
def test_each_ending_has_the_text_of_the_reference(ending: Ending, responded: bool, text: str | None) -> None:
    assert failure(ending, responded=responded) == text


def test_a_panic_that_speaks_of_exit_status_0_is_no_success() -> None:
    ending = Ending(kind=EndingKind.HOST_PANIC, text="exit status 0")
    assert failure(ending, responded=True) == "panic during wasm execution: exit status 0"


@given(
    kind=st.sampled_from(sorted(REPORTABLE)),
    code=st.integers(-(1 << 31), (1 << 31) - 1),
    text=st.text(max_size=MAX_TEXT_BYTES // 4).filter(lambda text: text.isprintable()),
)
def test_an_ending_survives_its_wire_form(kind: EndingKind, code: int, text: str) -> None:
    ending = Ending(kind=kind, code=code, text=text)
    assert Ending.unpack(ending.pack()) == ending


def test_a_long_text_is_cut_and_still_read() -> None:
    ending = Ending.unpack(Ending(kind=EndingKind.TRAP, text="é" * MAX_TEXT_BYTES).pack())
    assert ending.text == "é" * (MAX_TEXT_BYTES // 2)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\0", b"\x05\0\0\0\0", b"\xff\0\0\0\0", b"\0" * (MAX_TEXT_BYTES + 6)])
def test_an_outcome_that_no_execution_reports_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="an outcome of"):
        Ending.unpack(payload)


@given(st.binary(max_size=50))
def test_an_outcome_of_any_bytes_is_reportable_or_refused(payload: bytes) -> None:
    try:
        ending = Ending.unpack(payload)
    except ValueError:
        return
    assert ending.kind in REPORTABLE

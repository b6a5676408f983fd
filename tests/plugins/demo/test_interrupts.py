"""A signal raises once, and never between a process's start and its being known."""

from __future__ import annotations

import signal

import pytest

from innkeeper_demo.interrupts import Interrupted, held, interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_raises_and_the_next_is_ignored(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def run() -> None:
        with interrupts():
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)

    with pytest.raises(Interrupted) as raised:
        run()
    assert raised.value.number == number
    assert signal.getsignal(number) is before


def test_a_signal_waits_while_interrupts_are_held() -> None:
    done = []

    def run() -> None:
        with interrupts(), held():
            signal.raise_signal(signal.SIGTERM)
            done.append("the rest")

    with pytest.raises(Interrupted):
        run()
    assert done == ["the rest"]


def test_what_was_held_once_is_not_held_for_good() -> None:
    with interrupts():
        with held():
            pass
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)

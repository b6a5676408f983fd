"""A signal raises once, and never between a process's start and its being known."""

from __future__ import annotations

import signal

import pytest

from innkeeper_demo.interrupts import Interrupted, check, held, interrupts


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
    def run() -> None:
        with interrupts():
            with held():
                pass
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("it was held")

    with pytest.raises(Interrupted):
        run()


class Loses:
    """Loses what is raised while it goes, as callbacks of libraries do."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def lose() -> None:
    Loses()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_was_lost_is_told_where_it_is_asked_for() -> None:
    def run() -> None:
        with interrupts():
            lose()
            check()
            pytest.fail("it was not told")

    with pytest.raises(Interrupted):
        run()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_was_lost_is_told_at_the_end() -> None:
    with pytest.raises(Interrupted), interrupts():
        lose()


def test_a_signal_of_an_earlier_time_is_forgotten() -> None:
    with pytest.raises(Interrupted), interrupts():
        signal.raise_signal(signal.SIGTERM)
    with interrupts():
        check()

"""Tools of others: their output, their time, and that none outlives the build."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from innkeeper_wasm.build import tools
from innkeeper_wasm.build.interrupts import Interrupted, Interrupts
from innkeeper_wasm.build.tools import EXCERPT_LINES, Toolbox, ToolError, excerpt

# A tool that starts another, whose end closes the pipe; both are deaf to a polite request.
STUBBORN = 'trap "" TERM; sh -c \'trap "" TERM; echo ready >&3; while :; do sleep 100 3>&-; done\' & wait; wait'


def toolbox(timeout: float = 60, *, verbose: bool = False) -> Toolbox:
    return Toolbox(Interrupts(), timeout, verbose)


def test_a_tool_gets_the_environment_and_directory_that_it_was_given(tmp_path: Path) -> None:
    outcome = toolbox().run(
        ["/bin/sh", "-c", "pwd; env; cat; echo lost >&2; exit 3"], cwd=tmp_path, env={"ONLY": "this"}
    )
    assert outcome.code == 3
    lines = outcome.output.splitlines()
    assert lines[0] == str(tmp_path.resolve())
    assert "ONLY=this" in lines
    assert not any(line.startswith("HOME=") for line in lines)
    assert lines[-1] == "lost"


def test_a_tool_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be started: No such file"):
        toolbox().run([tmp_path / "none"], cwd=tmp_path, env={})


def test_verbose_repeats_what_a_tool_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toolbox(verbose=True).run(["/bin/echo", "hello"], cwd=tmp_path, env={})
    toolbox().run(["/bin/echo", "silence"], cwd=tmp_path, env={})
    assert capsys.readouterr().err == "hello\n"


def test_output_that_never_ends_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "OUTPUT_LIMIT", 10)
    outcome = toolbox().run(["/bin/sh", "-c", "printf 0123456789abcdef"], cwd=tmp_path, env={})
    assert outcome.output == "6789abcdef"


def stubborn(ready: Path) -> list[str]:
    return ["/bin/sh", "-c", f"exec 3>{ready}; {STUBBORN}"]


def watch(ready: Path, on_ready: object = None) -> tuple[threading.Thread, list[bytes]]:
    """Read a pipe to its end in a thread: the end comes when no process holds it any more."""
    os.mkfifo(ready)
    seen: list[bytes] = []

    def read() -> None:
        with ready.open("rb") as pipe:
            seen.append(pipe.readline())
            if callable(on_ready):
                on_ready()
            seen.append(pipe.read())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, seen


def test_a_tool_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "GRACE", 0.1)
    thread, seen = watch(tmp_path / "ready")
    with pytest.raises(ToolError, match=r"did not end within 0\.5 s"):
        toolbox(0.5).run(stubborn(tmp_path / "ready"), cwd=tmp_path, env={"PATH": os.defpath})
    thread.join(30)
    assert seen == [b"ready\n", b""]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_tool_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(tools, "GRACE", 0.1)
    before = signal.getsignal(number)
    thread, seen = watch(tmp_path / "ready", lambda: os.kill(os.getpid(), number))
    with Interrupts() as interrupts, pytest.raises(Interrupted) as caught:
        Toolbox(interrupts, 60).run(stubborn(tmp_path / "ready"), cwd=tmp_path, env={"PATH": os.defpath})
    thread.join(30)
    assert seen == [b"ready\n", b""]
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) == before


def test_a_signal_waits_while_interrupts_are_held() -> None:
    steps: list[str] = []

    def work() -> None:
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("held")
        steps.append("let go")

    with Interrupts() as interrupts, pytest.raises(Interrupted):
        work()
    assert steps == ["held"]


def test_a_second_signal_does_not_disturb_the_end() -> None:
    steps: list[str] = []
    with Interrupts() as interrupts:
        assert interrupts is not None
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("not stopped")
        except Interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("cleaned up")
    assert steps == ["cleaned up"]


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    handlers: list[object] = []

    def look() -> None:
        with Interrupts():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_an_excerpt_is_cut_and_says_so() -> None:
    text = excerpt([f"line {index}" for index in range(EXCERPT_LINES + 5)]).splitlines()
    assert text[0] == "line 0"
    assert len(text) == EXCERPT_LINES + 1
    assert "5 more lines" in text[-1]
    assert len(excerpt(["x" * 10_000])) < 500

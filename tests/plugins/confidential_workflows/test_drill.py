"""The drill finds the verifier in order, and finds it out when it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from innkeeper_confidential_workflows import drill
from innkeeper_confidential_workflows.protocol import Challenges, IssuedChallenge


def test_it_runs_as_a_program_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "innkeeper_confidential_workflows.drill"], capture_output=True, check=True
    )
    verdicts = json.loads(done.stdout)["verdicts"]
    assert [v["verdict"] for v in verdicts] == ["ok", "replayed", "nonce_mismatch", "nonce_mismatch", "nonce_mismatch"]
    assert all(v["verdict"] == v["expected"] for v in verdicts)
    assert done.stderr == b""


def test_a_challenge_that_is_not_used_up_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = Challenges.take

    def keep(self: Challenges, id_: bytes, *args: object) -> IssuedChallenge:
        live = self._live.get(id_)
        issued = take(self, id_, *args)  # type: ignore[arg-type]
        if live is not None:
            self._live[id_] = live
            del self._used[id_]
        return issued

    monkeypatch.setattr(Challenges, "take", keep)
    assert drill.main() == 1
    verdicts = {v["case"]: v["verdict"] for v in json.loads(capsys.readouterr().out)["verdicts"]}
    assert verdicts["the same document once more"] == "ok"


def test_a_nonce_that_is_not_compared_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(IssuedChallenge, "match", lambda *_: None)
    wrong = [v.case for v in drill.verdicts(tmp_path / "pins") if v.verdict != v.expected]
    assert wrong == ["a document with the nonce of another challenge"]

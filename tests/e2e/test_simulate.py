"""``workflow run``: the one-shot simulator, on official guests."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import brotli
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.guests


def test_the_clock_shows_its_trigger_its_log_and_its_value(cli, clock: Path) -> None:
    config = ROOT / "examples/clock/config.json"
    shown = cli.json("workflow", "run", clock, "--config", config)
    assert set(shown) == {"triggers", "logs", "result", "seconds"}
    assert [(t["id"], t["method"]) for t in shown["triggers"]] == [("cron-trigger@1.0.0", "Trigger")]
    assert len(shown["logs"]) == 1
    assert shown["logs"][0].startswith(json.loads(config.read_text())["greeting"])
    value = shown["result"]["value"]
    assert value["greeting"] == json.loads(config.read_text())["greeting"]
    assert isinstance(value["weekend"], bool)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value["now"])
    assert all(isinstance(n, int | float) for n in value["date"])
    assert isinstance(value["scheduled"], int)
    assert value["scheduled"] % 30 == 0
    assert re.fullmatch(r"\d+(\.\d+)?", value["epoch"])
    assert isinstance(value["secondsToMidnight"], str)
    assert 0 < shown["seconds"] < 60


def test_a_payload_is_what_the_handler_gets(cli, clock: Path) -> None:
    shown = cli.json(
        "workflow",
        "run",
        clock,
        "--config",
        ROOT / "examples/clock/config.json",
        "--payload",
        '{"scheduledExecutionTime": "2026-01-01T00:05:00Z"}',
    )
    assert shown["result"]["value"]["scheduled"] == 1767225900


def test_the_median_goes_through_consensus(cli, median: Path) -> None:
    shown = cli.json("workflow", "run", median, "--config", ROOT / "examples/median/config.json")
    assert isinstance(shown["result"]["value"], int | float | dict)


def test_every_form_of_the_file_is_the_same_workflow(cli, clock: Path, tmp_path: Path) -> None:
    packed = brotli.compress(clock.read_bytes(), quality=4)
    (tmp_path / "clock.wasm.br").write_bytes(packed)
    (tmp_path / "clock.wasm.br.b64").write_bytes(base64.b64encode(packed))
    for name in ("clock.wasm.br", "clock.wasm.br.b64"):
        shown = cli.json("workflow", "run", tmp_path / name, "--config", ROOT / "examples/clock/config.json")
        assert "value" in shown["result"]


def test_a_config_that_the_workflow_refuses_is_a_failed_run(cli, clock: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"schedule": ""}')
    done = cli("workflow", "run", clock, "--config", bad, "-o", "json", check=1)
    assert "schedule" in json.loads(done.stdout)["result"]["error"]


def test_a_schedule_that_is_too_fast_is_refused_as_in_production(cli, clock: Path, tmp_path: Path) -> None:
    fast = tmp_path / "fast.json"
    fast.write_text('{"schedule": "* * * * * *", "greeting": "x"}')
    done = cli("workflow", "run", clock, "--config", fast, "-o", "json", check=1)
    assert "maximum fastest cron schedule is 30s" in done.stdout + done.stderr


def test_a_trigger_that_does_not_exist_is_named(cli, clock: Path) -> None:
    done = cli("workflow", "run", clock, "--config", ROOT / "examples/clock/config.json", "--trigger", "7", check=None)
    assert done.returncode in (1, 2)
    assert "7" in done.stderr


def test_people_see_triggers_logs_and_result(cli, clock: Path) -> None:
    done = cli("workflow", "run", clock, "--config", ROOT / "examples/clock/config.json")
    assert "cron-trigger@1.0.0" in done.stdout + done.stderr
    assert "greeting" in done.stdout

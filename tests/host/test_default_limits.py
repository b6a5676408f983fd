"""Limits of the default set of providers, from innkeeper.yaml, nested as the reference's, to where they hold."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.capabilities.limit_settings import apply_settings
from innkeeper.capabilities.limits import LimitTable
from innkeeper.config.plugins import load_plugins
from innkeeper.config.settings import load_settings
from innkeeper.config.yaml import FaultyConfigError
from innkeeper.providers.catalog import build_catalog
from innkeeper.providers.discovery import discover
from innkeeper_cron.capability import CronTrigger
from innkeeper_cron.proto.capabilities.scheduler.cron.v1.trigger_pb2 import Config
from innkeeper_sdk.capability import CapabilityError, Origin, RequestMetadata, TriggerRegistration

ROOT = Path(__file__).parents[2]
FASTEST = "PerWorkflow.CRONTrigger.FastestScheduleInterval"
ENABLED = "PerWorkflow.ConfidentialWorkflows.Enabled"
OWNER, OTHER, WORKFLOW = "22" * 20, "33" * 20, "11" * 32

SETTINGS = f"""
limits:
  global:
    PerWorkflow:
      CRONTrigger:
        FastestScheduleInterval: 10s
      ConfidentialWorkflows:
        Enabled: true
  owner:
    "0x{OWNER}":
      PerWorkflow:
        CRONTrigger: {{FastestScheduleInterval: 2s}}
  workflow:
    "{WORKFLOW}":
      PerWorkflow.ConfidentialWorkflows.Enabled: false
"""


def limits(folder: Path, text: str) -> LimitTable:
    """Return the limits that the default set has under these settings, as a host puts them together."""
    path = folder / "innkeeper.yaml"
    path.write_text(text)
    settings = load_settings(file=path, environ={})
    catalog = build_catalog(load_plugins([ROOT / "plugins.yaml"]), discover())
    return apply_settings(catalog.limits, settings=settings.limits, origins=settings.origins)


def registration(schedule: str, owner: str) -> TriggerRegistration:
    payload = AnyMessage()
    payload.Pack(Config(schedule=schedule))
    return TriggerRegistration(f"{owner} {schedule}", RequestMetadata(WORKFLOW, owner), "Trigger", payload)


def test_what_is_not_set_has_the_reference_s_default(tmp_path: Path) -> None:
    table = limits(tmp_path, "limits: {}\n")
    assert table.get(FASTEST) == 30.0
    assert table.get(ENABLED) is False


def test_nested_settings_reach_the_limits_of_providers_the_narrowest_first(tmp_path: Path) -> None:
    table = limits(tmp_path, SETTINGS)
    assert [table.get(FASTEST, owner=owner, workflow_id=WORKFLOW) for owner in (OWNER, OTHER)] == [2.0, 10.0]
    assert table.get(ENABLED, owner=OWNER, workflow_id="44" * 32) is True
    assert table.get(ENABLED, owner=OWNER, workflow_id=WORKFLOW) is False
    # What a module type is given of its own provider's limits.
    assert table.of_provider("confidential-workflows", owner=OWNER, workflow_id=WORKFLOW) == {ENABLED: False}


async def test_a_schedule_that_is_too_fast_for_its_owner_is_refused(tmp_path: Path) -> None:
    trigger = CronTrigger(limits=limits(tmp_path, SETTINGS), logger=logging.getLogger("innkeeper.test"))
    await trigger.start()
    try:
        await trigger.register_trigger(registration("*/5 * * * * *", OWNER))
        for schedule, owner in (("*/5 * * * * *", OTHER), ("* * * * * *", OWNER)):
            with pytest.raises(CapabilityError) as caught:
                await trigger.register_trigger(registration(schedule, owner))
            assert caught.value.origin is Origin.USER
            assert "10s" in caught.value.message or "2s" in caught.value.message
    finally:
        await trigger.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{PerWorkflow: {CRONTrigger: {FastestScheduleIntervall: 1s}}}", f"did you mean {FASTEST}"),
        ("{PerWorkflow: {CRONTrigger: {FastestScheduleInterval: soon}}}", "limits.global." + FASTEST),
        ("{PerWorkflow: {ConfidentialWorkflows: {Enabled: 1}}}", "expected true or false"),
        ("{PerWorkflow: {ConfidentialWorkflows: {Enabled: 'true'}}}", "expected true or false"),
    ],
)
def test_a_setting_that_is_none_is_a_fault_and_never_the_default(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FaultyConfigError) as caught:
        limits(tmp_path, f"limits: {{global: {text}}}\n")
    assert said in str(caught.value)

"""Which providers are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from innkeeper.providers.discovery import Discovered, discover
from innkeeper_sdk.errors import ManifestError

LOUD = "raise SystemExit('imported')\n"


def found(site: Any, **options: Any) -> list[Discovered]:
    return list(discover([str(site.path)], **options).providers)


def one(site: Any) -> Discovered:
    (provider,) = found(site)
    return provider


def test_a_provider_is_found_with_everything_that_its_distribution_says(site: Any) -> None:
    folder = site.install("probe", title="A probe", version="2.1", source="file:///somewhere")
    provider = one(site)
    assert provider == Discovered(
        id="probe",
        distribution="ik-probe",
        version="2.1",
        value="ik_probe.plugin:plugin",
        location=str(site.path),
        source="file:///somewhere",
        manifest_path=str(folder / "innkeeper-provider.yaml"),
        document={"id": "probe", "title": "A probe", "sdk": ">=0"},
    )
    assert (provider.title, provider.package_dir) == ("A probe", folder)
    assert (provider.module, provider.attribute) == ("ik_probe.plugin", "plugin")
    assert provider.manifest().id == "probe"


def test_nothing_of_a_provider_is_imported_and_no_process_is_started(site: Any) -> None:
    site.install("probe", LOUD, init=LOUD)
    code = (
        "import json, os, subprocess, sys\n"
        "from innkeeper.providers.discovery import discover\n"
        "from innkeeper.providers.catalog import build_catalog\n"
        "from innkeeper.config.plugins import load_plugins\n"
        "from pathlib import Path\n"
        "def refuse(event, arguments):\n"
        "    if event in ('subprocess.Popen', 'os.system', 'os.fork', 'os.exec', 'os.posix_spawn'):\n"
        "        raise SystemExit(event)\n"
        "sys.addaudithook(refuse)\n"
        "found = discover()\n"
        "provider = found.by_id('probe')\n"
        "provider.manifest()\n"
        f"catalog = build_catalog(load_plugins([Path({str(site.path / 'plugins.yaml')!r})]), found)\n"
        "print(json.dumps([provider.error, catalog.entries[0].state.value,"
        " [name for name in sys.modules if name.startswith('ik_')]]))\n"
    )
    (site.path / "plugins.yaml").write_text("plugins: {probe: [{package: ik-probe}]}")
    env = {**os.environ, "PYTHONPATH": str(site.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [None, "starting", []]


def test_distributions_that_are_no_providers_are_passed_over(site: Any) -> None:
    site.plain("quiet")
    site.plain("other", "[console_scripts]\nx = y:z\n")
    site.plain("mention", "[other]\ninnkeeper.providers = y:z\n")
    site.install("probe")
    assert [provider.id for provider in found(site)] == ["probe"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"manifest": "id: probe\n"}, "title: the key is missing"),
        ({"manifest": "id: ["}, "this is not YAML"),
        ({"manifest": ""}, "the manifest is empty"),
        ({"manifest": {"id": "other"}}, "says id other, its entry point is named probe"),
        ({"value": "ik_missing.plugin:plugin"}, "names the package ik_missing, which is not there"),
        ({"value": "ik probe"}, "'ik probe' is not package.module:object"),
        ({"value": "ik_probe.plugin:plugin [extra]"}, "is not package.module:object"),
        ({"value": "../evil:x"}, "is not package.module:object"),
        ({"value": "ik_single:plugin"}, "ik_single is a single module"),
    ],
)
def test_what_is_wrong_with_one_provider_is_its_own_error(site: Any, options: dict[str, Any], said: str) -> None:
    (site.path / "ik_single.py").write_text(LOUD)
    site.install("good")
    site.install("probe", LOUD, init=LOUD, **options)
    good, bad = found(site)
    assert (good.id, good.error) == ("good", None)
    assert bad.id == "probe"
    assert said in (bad.error or "")
    with pytest.raises(ManifestError):
        bad.manifest()


def test_a_provider_without_a_manifest_is_an_error(site: Any) -> None:
    (site.install("probe") / "innkeeper-provider.yaml").unlink()
    assert "cannot be read: No such file" in (one(site).error or "")


def test_two_distributions_with_one_id_are_errors_of_both_that_name_both(site: Any) -> None:
    site.install("probe", package="ik_one", distribution="ik-one", version="1.0")
    site.install("probe", package="ik_two", distribution="ik-two", version="2.0")
    site.install("other")
    errors = {provider.distribution: provider.error for provider in found(site)}
    assert errors["ik-other"] is None
    for name in ("ik-one", "ik-two"):
        assert f"ik-one 1.0 ({site.path}) and ik-two 2.0 ({site.path})" in (errors[name] or "")


def test_the_first_distribution_on_the_search_path_hides_later_ones(site: Any, tmp_path: Path) -> None:
    later = type(site)(tmp_path / "later")
    later.path.mkdir()
    site.install("probe", version="2.0")
    later.install("probe", version="1.0")
    (provider,) = discover([str(site.path), str(later.path)]).providers
    assert (provider.version, provider.location, provider.error) == ("2.0", str(site.path), None)


def test_a_distribution_that_is_no_provider_any_more_hides_the_old_one(site: Any, tmp_path: Path) -> None:
    later = type(site)(tmp_path / "later")
    later.path.mkdir()
    site.plain("ik_probe")
    later.install("probe")
    assert discover([str(site.path), str(later.path)]).providers == ()


@pytest.mark.parametrize("broken", [b"[innkeeper.providers]\n\xff", b"[innkeeper.providers]\nno equals sign\n"])
def test_unusable_metadata_is_a_problem_that_hides_nobody_else(site: Any, broken: bytes) -> None:
    site.plain("broken", "x")
    (site.path / "broken-1.0.dist-info" / "entry_points.txt").write_bytes(broken)
    (site.path / "nameless-1.0.dist-info").mkdir()
    (site.path / "nameless-1.0.dist-info" / "entry_points.txt").write_text("[innkeeper.providers]\nx = y:z\n")
    site.install("probe")
    discovery = discover([str(site.path)])
    assert "probe" in [provider.id for provider in discovery.providers]
    assert discovery.problems
    assert all(str(site.path) in problem for problem in discovery.problems)


def test_a_search_path_may_name_what_is_not_there(site: Any) -> None:
    site.install("probe")
    file = site.path / "file"
    file.touch()
    assert len(discover(["/no/such/place", str(file), str(site.path)]).providers) == 1


def test_providers_are_found_by_id_and_by_distribution(site: Any) -> None:
    site.install("probe", distribution="IK_Probe.x")
    discovery = discover([str(site.path)])
    assert discovery.by_id("probe") is not None
    assert discovery.by_id("other") is None
    assert [provider.id for provider in discovery.by_distribution("ik-probe-x")] == ["probe"]
    assert discovery.by_distribution("other") == ()


def test_a_real_editable_install_is_found() -> None:
    by_id = {provider.id: provider for provider in discover().providers}
    assert {"wasm", "cron", "consensus"} <= set(by_id)
    for id_ in ("wasm", "cron", "consensus"):
        assert by_id[id_].error is None
        assert by_id[id_].package_dir == Path(__file__).parents[3] / "plugins" / id_ / "src" / f"innkeeper_{id_}"

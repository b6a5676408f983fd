"""plugins.yaml joined with what is installed, and checked without importing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import innkeeper_sdk
from innkeeper.config.plugins import load_plugins
from innkeeper.providers.catalog import Catalog, CatalogEntry, build_catalog, join
from innkeeper.providers.discovery import discover
from innkeeper.providers.states import ProviderState

LOUD = "raise SystemExit('imported')\n"

Build = Callable[[str], Catalog]


@pytest.fixture
def plugins(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "plugins.yaml"
        path.write_text(f"plugins: {text}")
        return path

    return write


@pytest.fixture
def build(site: Any, plugins: Callable[[str], Path]) -> Build:
    """Return what builds a catalog of the providers on the site, from the entries of a plugins.yaml."""
    return lambda text: build_catalog(load_plugins([plugins(text)]), discover([str(site.path)]))


def one(catalog: Catalog) -> CatalogEntry:
    (item,) = catalog.entries
    return item


def reason(catalog: Catalog) -> str:
    item = one(catalog)
    assert item.state is ProviderState.FAILED
    assert not item.starts
    return item.reason


def test_an_entry_finds_its_provider_and_is_to_be_started(site: Any, build: Build) -> None:
    site.install("probe", LOUD, init=LOUD, title="A probe", modules=[{"name": "plain"}], version="1.2")
    item = one(build("{any: [{package: Ik.Probe}]}"))
    assert (item.id, item.starts, item.state, item.reason) == ("probe", True, ProviderState.STARTING, "")
    assert (item.title, item.package, item.version, item.mode) == ("A probe", "ik-probe", "1.2", "host")
    assert item.manifest is not None
    assert item.manifest.modules[0].name == "plain"


def test_joining_reads_no_manifest_as_a_record(site: Any, plugins: Callable[[str], Path]) -> None:
    site.install("probe")
    (item,) = join(load_plugins([plugins("{a: [{package: ik-probe}]}")]), discover([str(site.path)]))
    assert (item.id, item.starts, item.manifest) == ("probe", True, None)


def test_a_disabled_entry_is_not_checked(site: Any, build: Build) -> None:
    site.install("probe", manifest="id: [")
    catalog = build("{a: [{package: ik-probe, enabled: false}, {package: missing, enabled: false}]}")
    assert [item.state for item in catalog.entries] == [ProviderState.DISABLED] * 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{package: ik-missing}", "no provider of the package ik-missing is installed; install it with: pip install"),
        ("{package: ik-probe, id: other}", "the package ik-probe has no provider other; it has probe"),
        (
            "{package: 'ik-probe>=2'}",
            "is installed in version 1.0, plugins.yaml wants >=2; install it with: pip install",
        ),
        ("{package: ./ik_probe-3.0-py3-none-any.whl}", "plugins.yaml wants ==3.0"),
        ("{package: ./elsewhere}", "no provider of the package ./elsewhere is installed"),
    ],
)
def test_a_package_that_is_not_what_was_asked_for_fails(site: Any, build: Build, entry: str, said: str) -> None:
    site.install("probe")
    assert said in reason(build(f"{{a: [{entry}]}}"))


def test_a_prerelease_satisfies_the_range_it_is_in(site: Any, build: Build) -> None:
    site.install("probe", version="2.0b1")
    assert one(build("{a: [{package: 'ik-probe>=1'}]}")).starts


def test_a_version_that_is_none_satisfies_nothing(site: Any, build: Build) -> None:
    site.install("probe", version="latest")
    assert "is installed in version latest" in reason(build("{a: [{package: 'ik-probe>=1'}]}"))


def test_a_directory_is_found_by_where_it_was_installed_from(site: Any, build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "my probe"
    folder.mkdir()
    site.install("probe", source=folder.as_uri())
    site.install("other", source="https://example.test/other.zip")
    assert one(build("{a: [{package: './my probe'}]}")).id == "probe"
    assert one(build(f"{{a: [{{package: '{folder}/'}}]}}")).id == "probe"


def test_of_a_package_with_several_providers_an_id_says_which(site: Any, build: Build) -> None:
    points = "[innkeeper.providers]\none = ik_one.plugin:plugin\ntwo = ik_two.plugin:plugin\n"
    site.install("one", distribution="ik-both", entry_points=points)
    site.install("two", distribution="ik-other")
    (site.path / "ik_other-1.0.dist-info" / "entry_points.txt").unlink()
    assert "has several providers, one, two; say which one with id" in reason(build("{a: [{package: ik-both}]}"))
    catalog = build("{a: [{package: ik-both, id: two}, {package: ik-both, id: one}]}")
    assert [(item.id, item.starts) for item in catalog.entries] == [("two", True), ("one", True)]


def test_two_entries_that_mean_one_provider_fail_both(site: Any, build: Build) -> None:
    site.install("probe")
    catalog = build("{a: [{package: ik-probe}, {package: ik-probe, id: probe}]}")
    assert [item.state for item in catalog.entries] == [ProviderState.FAILED] * 2
    assert all("the provider probe is named by two entries, " in item.reason for item in catalog.entries)
    assert len({item.id for item in catalog.entries}) == 2


def test_every_entry_has_an_id_of_its_own(site: Any, build: Build) -> None:
    site.install("probe")
    catalog = build(
        "{probe: [{package: missing}, {package: missing2}], b: [{package: ik-probe}],"
        " c: [{moduleURI: x, installPath: .}, {moduleURI: x, installPath: ./d}]}"
    )
    ids = [item.id for item in catalog.entries]
    assert ids == ["plugins.probe[0]", "plugins.probe[1]", "probe", "c", "plugins.c[1]"]


def test_a_faulty_manifest_fails_its_own_entry(site: Any, build: Build) -> None:
    site.install("probe", manifest="id: probe\n")
    site.install("good")
    catalog = build("{a: [{package: ik-probe}, {package: ik-good}]}")
    assert [item.starts for item in catalog.entries] == [False, True]
    assert "title: the key is missing" in catalog.entries[0].reason
    assert list(catalog.installed) == ["good"]


def test_another_range_of_the_sdk_fails(site: Any, build: Build) -> None:
    site.install("probe", sdk=">=99")
    assert f"it works with the SDK >=99, this host has {innkeeper_sdk.__version__}" in reason(
        build("{a: [{package: ik-probe}]}")
    )


CONFIG = {
    "type": "object",
    "required": ["depth"],
    "additionalProperties": False,
    "properties": {"depth": {"type": "integer"}, "key": {"type": "string", "minLength": 50}, "list": {"type": "array"}},
}


def test_every_fault_of_a_config_is_told_with_its_place(site: Any, build: Build) -> None:
    site.install("probe", config=CONFIG)
    said = reason(build("{a: [{package: ik-probe, config: {depth: x, dept: 1, list: 5}}]}"))
    assert 'plugins.yaml:1:44: config.depth: "x" is not of type "integer"' in said
    assert 'plugins.yaml:1:63: config.list: 5 is not of type "array"' in said
    assert 'config: Additional properties are not allowed ("dept" was unexpected)' in said


def test_a_config_that_is_needed_is_missed(site: Any, build: Build) -> None:
    site.install("probe", config=CONFIG)
    assert 'config: "depth" is a required property' in reason(build("{a: [{package: ik-probe}]}"))


def test_a_provider_without_a_schema_takes_no_config(site: Any, build: Build) -> None:
    site.install("probe")
    assert "the provider takes no config" in reason(build("{a: [{package: ik-probe, config: {a: 1}}]}"))
    assert one(build("{a: [{package: ik-probe, config: {}}]}")).starts


def test_behind_a_reference_only_the_shape_is_checked(site: Any, build: Build) -> None:
    site.install("probe", config=CONFIG)
    assert one(build("{a: [{package: ik-probe, config: {depth: {$env: D}, key: {$file: k}}}]}")).starts
    said = reason(build("{a: [{package: ik-probe, config: {key: {$env: K}, other: {$env: O}}}]}"))
    assert '"depth" is a required property' in said
    assert '"other" was unexpected' in said


CAPABILITIES = [
    {"id": "open@1.0.0", "type": "action", "visibility": "public"},
    {"id": "shut@1.0.0", "type": "action", "visibility": "internal"},
]


@pytest.mark.parametrize("visibility", ["internal", "public", "{open@1.0.0: internal}", "{shut@1.0.0: internal}"])
def test_a_visibility_may_be_tightened(site: Any, build: Build, visibility: str) -> None:
    site.install("probe", capabilities=CAPABILITIES)
    assert one(build(f"{{a: [{{package: ik-probe, visibility: {visibility}}}]}}")).starts


@pytest.mark.parametrize(
    ("visibility", "said"),
    [
        ("{shut@1.0.0: public}", "the visibility of shut@1.0.0 may only be tightened"),
        ("{opn@1.0.0: internal}", "opn@1.0.0, which the provider does not declare; did you mean open@1.0.0?"),
    ],
)
def test_a_visibility_that_would_be_loosened_or_is_for_nothing_fails(
    site: Any, build: Build, visibility: str, said: str
) -> None:
    site.install("probe", capabilities=CAPABILITIES)
    assert said in reason(build(f"{{a: [{{package: ik-probe, visibility: {visibility}}}]}}"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("mode: loop", "plugins.a[0].mode: none of its capabilities can run as loop"),
        ("env: {A: b}", "plugins.a[0].env: has no effect, the provider has no processes"),
        ("restart: {budget: 1}", "plugins.a[0].restart: has no effect, the provider has no processes"),
    ],
)
def test_a_key_without_effect_fails(site: Any, build: Build, entry: str, said: str) -> None:
    site.install("probe", capabilities=CAPABILITIES)
    assert said in reason(build(f"{{a: [{{package: ik-probe, {entry}}}]}}"))


def test_all_faults_of_an_entry_are_told_at_once(site: Any, build: Build) -> None:
    site.install("probe", sdk=">=99", capabilities=CAPABILITIES)
    said = reason(build("{a: [{package: ik-probe, mode: loop, env: {A: b}, config: {a: 1}}]}"))
    for part in ("the SDK >=99", ".mode: ", ".env: ", "takes no config"):
        assert part in said


BOTH = {"id": "both@1.0.0", "type": "action", "where": ["host", "loop"]}
PROCESS = {"worker": {"executable": "worker", "capabilities": ["both@1.0.0"]}}


def parts_of(item: CatalogEntry) -> list[tuple[str, str, str]]:
    return [(part.name, part.mode, part.process) for part in item.parts]


def test_where_there_is_a_choice_capabilities_run_in_the_host(site: Any, build: Build) -> None:
    site.install("probe", capabilities=[BOTH], processes=PROCESS)
    item = one(build("{a: [{package: ik-probe}]}"))
    assert (item.starts, item.mode, item.reason) == (True, "host", "")
    assert parts_of(item) == [("host", "host", "")]


def test_the_entry_s_mode_moves_them_to_their_process(site: Any, build: Build) -> None:
    site.install("probe", capabilities=[BOTH], processes=PROCESS)
    item = one(build("{a: [{package: ik-probe, mode: loop, env: {A: {$env: X}}, restart: {budget: 1}}]}"))
    assert (item.starts, item.mode, item.reason) == (True, "loop", "")
    assert parts_of(item) == [("worker", "loop", "")]


def test_a_helper_is_a_part_once_for_each_process_that_needs_it(site: Any, build: Build) -> None:
    site.install(
        "probe",
        modules=[{"name": "probe"}],
        capabilities=[
            BOTH,
            *({"id": f"{id_}@1.0.0", "type": "action", "where": ["loop"]} for id_ in ("loop", "third")),
        ],
        processes={
            "aide": {"executable": "aide", "helper": True},
            "idle": {"executable": "idle", "helper": True},
            "worker": {"executable": "w", "capabilities": ["both@1.0.0"], "needs": ["aide", "idle"]},
            "second": {"executable": "s", "capabilities": ["loop@1.0.0"], "needs": ["aide", "third"]},
            "third": {"executable": "t", "capabilities": ["third@1.0.0"], "needs": ["aide"]},
        },
    )
    rest = [
        ("second", "loop", ""),
        ("aide", "helper", "second"),
        ("third", "loop", ""),
        ("aide", "helper", "third"),
    ]
    assert parts_of(one(build("{a: [{package: ik-probe}]}"))) == [("host", "host", ""), *rest]
    assert parts_of(one(build("{a: [{package: ik-probe, mode: loop}]}"))) == [
        ("host", "host", ""),
        *rest,
        ("worker", "loop", ""),
        ("aide", "helper", "worker"),
        ("idle", "helper", "worker"),
    ]


def test_a_provider_with_processes_only_has_the_mode_of_a_process(site: Any, build: Build) -> None:
    site.install(
        "probe",
        capabilities=[{"id": "loop@1.0.0", "type": "action", "where": ["loop"]}],
        processes={
            "aide": {"executable": "aide", "helper": True},
            "worker": {"executable": "w", "capabilities": ["loop@1.0.0"], "needs": ["aide"]},
        },
    )
    site.install("commands", commands=[{"noun": "probe", "run": "ik_probe.cli:main"}])
    probe, commands = build("{a: [{package: ik-probe}, {package: ik-commands}]}").entries
    assert (probe.mode, commands.mode, parts_of(commands)) == ("loop", "host", [])


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("restart: {budgte: 1}", "`restart` has no key 'budgte'"),
        ("restart: {budget: many}", "`restart` has a budget that cannot be used"),
        ("env: {INNKEEPER_ENVIRONMENT: development}", "plugins.a[0].env.INNKEEPER_ENVIRONMENT: is the host's own to"),
        ("env: {INNKEEPER_LAUNCH: x}", "plugins.a[0].env.INNKEEPER_LAUNCH: is the host's own to set"),
        ("env: {PLUGIN_UNIX_SOCKET_DIR: /tmp}", "plugins.a[0].env.PLUGIN_UNIX_SOCKET_DIR: is the host's own to set"),
        ("env: {TMPDIR: /tmp}", "plugins.a[0].env.TMPDIR: is the host's own to set"),
    ],
)
def test_what_an_entry_may_not_say_of_its_processes_fails(site: Any, build: Build, entry: str, said: str) -> None:
    site.install("probe", capabilities=[BOTH], processes=PROCESS)
    assert said in reason(build(f"{{a: [{{package: ik-probe, mode: loop, {entry}}}]}}"))


@pytest.mark.parametrize("key", ["env: {A: b}", "restart: {budget: 1}"])
def test_what_is_said_of_processes_that_are_not_started_has_no_effect(site: Any, build: Build, key: str) -> None:
    site.install("probe", capabilities=[BOTH], processes=PROCESS)
    assert "has no effect, none of its processes is started" in reason(build(f"{{a: [{{package: ik-probe, {key}}}]}}"))


@pytest.mark.parametrize("parts", [{"sources": ["git"]}, {"secret_stores": ["vault"]}])
def test_parts_that_this_host_has_no_place_for_are_unsupported(site: Any, build: Build, parts: dict[str, Any]) -> None:
    site.install("probe", **parts)
    assert one(build("{a: [{package: ik-probe}]}")).state is ProviderState.UNSUPPORTED


def test_a_module_of_go_is_listed_and_not_started(build: Build) -> None:
    catalog = build(
        "{a: [{moduleURI: x/y, gitRef: v1, installPath: .}],"
        " b: [{moduleURI: x/y, installPath: ., capabilities: [a@1.0.0]}],"
        " c: [{moduleURI: x/y, installPath: ., enabled: false}]}"
    )
    assert [(item.id, item.state, item.mode) for item in catalog.entries] == [
        ("a", ProviderState.STOPPED, "loop"),
        ("b", ProviderState.UNSUPPORTED, "loop"),
        ("c", ProviderState.DISABLED, "loop"),
    ]
    assert (catalog.entries[0].package, catalog.entries[0].version) == ("x/y", "v1")
    assert "its entry has no capabilities" in catalog.entries[0].reason
    assert catalog.entries[1].reason == "it is a module of Go, and this version of the host starts none"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"modules": [{"name": "{id}"}], "kinds": [{"name": "k", "module": "{id}"}]},
            "the kind of binary k is one's",
        ),
        (
            {
                "modules": [{"name": "{id}"}],
                "kinds": [{"name": "{id}", "module": "{id}", "suffixes": [{"suffix": ".x"}]}],
            },
            "the suffix .x is one's",
        ),
        ({"modules": [{"name": "m"}]}, "the module type m is one's"),
        ({"capabilities": [{"id": "a@1.0.0", "type": "action"}]}, "the capability a@1.0.0 is one's"),
        ({"limits": {"L": {"type": "integer", "default": 1}}}, "L is declared by one already"),
    ],
)
def test_what_only_one_may_have_is_the_first_ones(site: Any, build: Build, parts: dict[str, Any], said: str) -> None:
    import json

    for id_ in ("one", "two"):
        site.install(id_, **json.loads(json.dumps(parts).replace("{id}", id_)))
    catalog = build("{a: [{package: ik-one}, {package: ik-two}]}")
    assert [item.starts for item in catalog.entries] == [True, False]
    assert said in catalog.entries[1].reason
    # The other way round it is the other one's.
    catalog = build("{a: [{package: ik-two}, {package: ik-one}]}")
    assert [(item.id, item.starts) for item in catalog.entries] == [("two", True), ("one", False)]
    # Disabled, it is in nobody's way.
    assert build("{a: [{package: ik-one, enabled: false}, {package: ik-two}]}").entries[1].starts


def test_a_limit_of_the_host_cannot_be_declared_anew(site: Any, build: Build) -> None:
    site.install("probe", limits={"PerWorkflow.ExecutionTimeout": {"type": "duration", "default": "99h"}})
    catalog = build("{a: [{package: ik-probe}]}")
    assert "PerWorkflow.ExecutionTimeout is declared by the host already" in reason(catalog)
    assert catalog.limits["PerWorkflow.ExecutionTimeout"].provider_id == ""


def test_disabled_and_unlisted_providers_declare_too(site: Any, build: Build) -> None:
    for id_ in ("unlisted", "off", "on"):
        site.install(id_, limits={f"{id_}.Limit": {"type": "integer", "default": 1}})
    catalog = build("{a: [{package: ik-off, enabled: false}, {package: ik-on}]}")
    assert list(catalog.installed) == ["on", "off", "unlisted"]
    assert {"on.Limit", "off.Limit", "unlisted.Limit"} <= set(catalog.limits)


def test_what_is_needed_must_be_there(site: Any, build: Build) -> None:
    site.install("one", needs=["two"])
    site.install("two", needs=["three"])
    site.install("three")
    everything = "{a: [{package: ik-one}, {package: ik-two}, {package: ik-three}]}"
    assert all(item.starts for item in build(everything).entries)
    catalog = build(everything.replace("{package: ik-three}", "{package: ik-three, enabled: false}"))
    assert [item.state for item in catalog.entries] == [
        ProviderState.FAILED,
        ProviderState.FAILED,
        ProviderState.DISABLED,
    ]
    assert "it needs two, which will not be there" in catalog.entries[0].reason
    assert "it needs three, which will not be there" in catalog.entries[1].reason


def test_every_circle_of_needs_fails_and_others_are_started(site: Any, build: Build) -> None:
    for one_, other in (("a1", "a2"), ("a2", "a1"), ("b1", "b2"), ("b2", "b1")):
        site.install(one_, needs=[other])
    site.install("free")
    ids = ("a1", "a2", "b1", "b2", "free")
    catalog = build(f"{{a: [{', '.join(f'{{package: ik-{id_}}}' for id_ in ids)}]}}")
    assert [item.starts for item in catalog.entries] == [False, False, False, False, True]
    assert all("providers need each other: " in item.reason for item in catalog.entries[:4])


def test_a_provider_whose_id_two_distributions_give_fails_and_names_both(site: Any, build: Build) -> None:
    site.install("probe", package="ik_one", distribution="ik-one")
    site.install("probe", package="ik_two", distribution="ik-two")
    said = reason(build("{a: [{package: ik-one}]}"))
    assert "ik-one 1.0" in said
    assert "ik-two 1.0" in said

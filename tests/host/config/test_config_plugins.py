"""plugins.yaml: the reference's files and ours, and everything that can be wrong with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper.config.entries import ENTRY_KEYS, EVERY
from innkeeper.config.plugins import Defaults, PluginsConfig, find_plugins_files, load_plugins
from innkeeper.config.yaml import FaultyConfigError
from innkeeper_sdk.capability import Visibility
from innkeeper_sdk.errors import ConfigError, ExitCode

ROOT = Path(__file__).parents[3]

Write = Callable[..., Path]

# The shapes of the reference's own files.
REFERENCE = r"""
defaults:
  goflags: "-ldflags=-s"
  envvars: [CGO_ENABLED=0]
plugins:
  cosmos:
    - moduleURI: "github.com/smartcontractkit/chainlink-cosmos"
      gitRef: "f740e9ae54e79762991bdaf8ad6b50363261c056"
      installPath: "github.com/smartcontractkit/chainlink-cosmos/pkg/cosmos/cmd/chainlink-cosmos"
      libs: ["/go/pkg/mod/github.com/!cosm!wasm/wasmvm@v*/internal/api/libwasmvm.*.so"]
  cron:
    - enabled: true
      moduleURI: "github.com/smartcontractkit/capabilities/cron"
      gitRef: "1.4.2"
      installPath: "."
  confidential-http:
    - moduleURI: "github.com/smartcontractkit/chainlink-confidential-compute/enclave/apps/confidential-http/capability"
      gitRef: 12345678
      installPath: "./cmd/confidential-http"
  confidential-workflows:
    - moduleURI: >-
        github.com/smartcontractkit/chainlink-confidential-compute/enclave/apps/confidential-workflows/capability
      gitRef: 1e5
      installPath: "./cmd/confidential-workflows"
      flags: "-tags=added -ldflags='-X main.url=https://example.test'"
      envvars: [GOOS=linux]
  several:
    - {enabled: false, moduleURI: ./local, installPath: ./cmd/a}
    - {enabled: , moduleURI: /opt/local, gitRef: , installPath: ./cmd/b, flags: , libs: , envvars: }
    - {enabled: no, moduleURI: /opt/local, installPath: ./cmd/c}
  nothing:
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "plugins.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def faults_of(*paths: Path, keep_going: bool = False) -> list[str]:
    with pytest.raises(FaultyConfigError) as caught:
        load_plugins(paths, keep_going=keep_going)
    return [str(fault).replace(f"{paths[0].parent}/", "") for fault in caught.value.faults]


def entry(write: Write, text: str) -> str:
    """Return the one fault of a file with one entry of these keys."""
    (fault,) = faults_of(write(f"plugins: {{probe: [{text}]}}"))
    return fault


def one(write: Write, text: str) -> PluginsConfig:
    return load_plugins([write(f"plugins: {{probe: [{text}]}}")])


def test_the_references_files_parse_unchanged(write: Write) -> None:
    path = write(REFERENCE)
    config = load_plugins([path])
    assert config.defaults == {str(path): Defaults("-ldflags=-s", ("CGO_ENABLED=0",))}
    found = {(e.group, e.install_path): e for e in config.entries}
    assert len(found) == 7
    assert all(e.built_only and e.package is None for e in config.entries)
    cosmos = config.entries[0]
    assert cosmos.module_uri == "github.com/smartcontractkit/chainlink-cosmos"
    assert cosmos.libs == ("/go/pkg/mod/github.com/!cosm!wasm/wasmvm@v*/internal/api/libwasmvm.*.so",)
    assert cosmos.enabled
    assert [e.git_ref for e in config.entries[2:4]] == ["12345678", "1e5"]
    assert config.entries[3].envvars == ("GOOS=linux",)
    assert [e.enabled for e in config.entries[4:]] == [False, True, False]


def test_the_default_set_is_the_providers_of_the_house() -> None:
    config = load_plugins([ROOT / "plugins.yaml"])
    assert [(str(e.package.text), e.grants) for e in config.entries if e.package] == [
        ("innkeeper-wasm", ()),
        ("innkeeper-cron", ()),
        ("innkeeper-consensus", ()),
        ("innkeeper-vault", ()),
        ("innkeeper-confidential-workflows", ("vault@1.0.0", "artifacts@1.0.0")),
    ]


def test_everything_that_an_entry_can_say_is_read(write: Write) -> None:
    config = one(
        write,
        "{id: probe, package: 'innkeeper-probe>=1', enabled: true, mode: loop, required: yes,"
        " visibility: {a@1.0.0: internal, b@1.0.0: public}, grants: [c@1.0.0-alpha], restart: {budget: 3},"
        " limits: {PerWorkflow: {Probe: 5}}, env: {A: 1, B: {$env: X}}, config: {deep: [{$file: key}]}}",
    )
    (found,) = config.entries
    assert (found.id, found.mode, found.required) == ("probe", "loop", True)
    assert found.package is not None
    assert (found.package.name, found.package.specifier) == ("innkeeper-probe", ">=1")
    assert found.visibility == {"a@1.0.0": Visibility.INTERNAL, "b@1.0.0": Visibility.PUBLIC}
    assert found.grants == ("c@1.0.0-alpha",)
    assert found.restart == {"budget": 3}
    assert {name: value for name, (value, _) in found.limits.items()} == {"PerWorkflow.Probe": 5}
    assert found.env == {"A": "1", "B": {"$env": "X"}}
    assert found.config == {"deep": [{"$file": "key"}]}
    assert found.path == "plugins.probe[0]"
    assert str(found.origin).endswith("plugins.yaml:1:19")


def test_a_word_of_visibility_is_for_every_capability(write: Write) -> None:
    assert one(write, "{package: p, visibility: internal}").entries[0].visibility == {EVERY: Visibility.INTERNAL}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ("[a@1.0.0, b@2.0.0]", {"a@1.0.0": Visibility.INTERNAL, "b@2.0.0": Visibility.INTERNAL}),
        ("{a@1.0.0: public, b@2.0.0: internal}", {"a@1.0.0": Visibility.PUBLIC, "b@2.0.0": Visibility.INTERNAL}),
    ],
)
def test_a_module_of_go_with_capabilities_is_more_than_built(
    write: Write, capabilities: str, expected: dict[str, Visibility]
) -> None:
    (found,) = one(write, f"{{moduleURI: x/y, installPath: ., capabilities: {capabilities}}}").entries
    assert found.capabilities == expected
    assert not found.built_only


def test_every_fault_of_every_file_is_told_at_once(write: Write) -> None:
    first = write("plugins:\n  a:\n    - {enabld: true, package: p}\n    - {package: q, mode: lop}\n")
    second = write("plugins: [x]\ndefault: {}\n", "second.yaml")
    assert faults_of(first, second) == [
        "plugins.yaml:3:8: plugins.a[0].enabld: unknown key; did you mean enabled?",
        "plugins.yaml:4:26: plugins.a[1].mode: not what belongs here (expected host or loop, found 'lop')",
        "second.yaml:1:10: plugins: not what belongs here (expected a mapping, found a list)",
        "second.yaml:2:1: default: unknown key; did you mean defaults?",
    ]


def test_a_faulty_file_ends_a_command_with_3(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plugins([write("plugins: {a: [{}]}")])
    assert caught.value.exit_code is ExitCode.CONFIG


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "plugins.yaml: the file is empty (expected a mapping with plugins)"),
        ("# nothing\n", "plugins.yaml: the file is empty"),
        ("just text", "plugins.yaml:1:1: not what belongs here (expected a mapping, found 'just text')"),
        ("- a", "plugins.yaml:1:1: not what belongs here (expected a mapping, found a list)"),
        ("~", "plugins.yaml:1:1: not what belongs here (expected a mapping, found nothing)"),
        ("defaults: {}", "plugins.yaml:1:1: plugins: the key is missing (expected the plugins by name, or {})"),
        ("plugins:\n\ta: []", "plugins.yaml:2:1: this is not YAML: "),
        ("plugins: {a: [", "plugins.yaml:2:1: this is not YAML: "),
        ("plugins: {a: [], a: []}", "plugins.yaml:1:18: the key 'a' is given twice, first on line 1"),
        ("plugins: {a: [{package: p, package: q}]}", "the key 'package' is given twice"),
        ("plugins: {}\n---\nplugins: {}\n", "plugins.yaml:2:1: a second document begins"),
        (
            "plugins: {a: {package: p}}",
            "plugins.a: not what belongs here (expected a list of entries, found a mapping)",
        ),
        ("plugins: {a: [p]}", "plugins.a[0]: not what belongs here (expected a mapping, found 'p')"),
        ("version: 2\nplugins: {}", "plugins.yaml:1:10: version: not what belongs here (expected 1, found '2')"),
        ("plugins: {}\ndefaults: {goflag: x}", "defaults.goflag: unknown key; did you mean goflags?"),
        ('plugins: {}\ndefaults: {goflags: "\'"}', "defaults.goflags: cannot be split into words"),
        ("plugins: {}\ndefaults: {envvars: x}", "defaults.envvars: not what belongs here (expected a list of texts"),
        ("plugins: " + "[" * 100_000, "nested too deeply"),
        ("plugins: {a: &a [*a]}", "the alias *a contains itself"),
        ("plugins: {a: [{package: p, config: !!python/name:os.system x}]}", "does not fit here"),
    ],
)
def test_what_is_no_plugins_yaml_is_refused(write: Write, text: str, said: str) -> None:
    assert said in faults_of(write(text))[0]


def test_an_alias_bomb_is_refused(write: Write) -> None:
    lines = ["plugins: {}", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "too many values" in faults_of(write("\n".join(lines)))[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "names nothing to load (expected package or moduleURI)"),
        ("{id: x}", "names nothing to load"),
        ("{package: p, moduleURI: x, installPath: .}", "an entry has a package or a moduleURI, not both"),
        ("{package: p, gitRef: v1}", "gitRef: belongs to moduleURI, not to a package"),
        ("{package: p, capabilities: [a@1.0.0]}", "capabilities: belongs to moduleURI: a package has a manifest"),
        ("{package: 'a b'}", "package: not what belongs here (expected a requirement"),
        ("{package: }", "package: not what belongs here"),
        ("{package: 'p @ https://user:hunter2@x y'}", "found a URL"),
        ("{package: p, id: 5}", "id: not what belongs here (expected a lower-case letter"),
        ("{package: p, id: Probe}", "id: not what belongs here"),
        ("{package: p, id: }", "id: not what belongs here"),
        ("{package: p, mode: }", "mode: not what belongs here (expected host or loop, found nothing)"),
        ("{package: p, required: maybe}", "required: not what belongs here (expected true or false"),
        ("{package: p, required: }", "required: not what belongs here"),
        ("{package: p, enabled: 'true'}", "enabled: not what belongs here"),
        ("{package: p, visibility: hidden}", "visibility: not what belongs here (expected public or internal"),
        (
            "{package: p, visibility: }",
            "visibility: not what belongs here (expected public or internal, found nothing)",
        ),
        ("{package: p, visibility: {a: internal}}", "visibility: not a capability's id"),
        ("{package: p, visibility: {a@1.0.0: open}}", "visibility.a@1.0.0: not what belongs here"),
        ("{package: p, visibility: [a@1.0.0]}", "visibility: not what belongs here (expected a mapping"),
        ("{package: p, grants: a@1.0.0}", "grants: not what belongs here (expected a list of capabilities' ids"),
        ("{package: p, grants: [a]}", "grants[0]: not what belongs here (expected a capability's id"),
        ("{package: p, grants: ['*']}", "grants[0]: not what belongs here"),
        ("{package: p, grants: [a@1.0.0, a@1.0.0]}", "grants[1]: a@1.0.0 is given twice"),
        ("{package: p, restart: always}", "restart: not what belongs here (expected a mapping"),
        ("{package: p, limits: {A: [1]}}", "limits.A: not what belongs here"),
        ("{package: p, env: {'A B': x}}", "env.A B: not a variable's name"),
        ("{package: p, env: {A: [x]}}", "env.A: not what belongs here"),
        ("{package: p, env: {A: {b: c}}}", "env.A: not a reference (expected {$env: NAME} or {$file: PATH}"),
        ("{package: p, config: 5}", "config: not what belongs here (expected a mapping"),
        ("{package: p, config: {a: {$evn: X}}}", "config.a: $evn is no reference"),
        ("{package: p, config: {a: [{$env: X, b: 1}]}}", "config.a[0]: a reference stands alone in its mapping"),
        ("{package: p, config: {$env: }}", "config: $env names nothing"),
        ("{moduleURI: x}", "moduleURI: needs an installPath beside it"),
        ("{moduleURI: x, installPath: ., mode: loop, capabilities: [a@1.0.0]}", "mode: has no effect"),
        ("{moduleURI: x, installPath: ., config: {a: 1}}", "config: has no effect; a module is started only if"),
        ("{moduleURI: x, installPath: ., required: true}", "required: has no effect"),
        ("{moduleURI: 'x@v1', installPath: .}", "moduleURI: has characters that do not belong here"),
        ('{moduleURI: "x\\n", installPath: .}', "moduleURI: has characters that do not belong here"),
        ("{moduleURI: xé, installPath: .}", "moduleURI: has characters that do not belong here"),
        ("{moduleURI: x, gitRef: v1+incompatible, installPath: .}", "gitRef: has characters that do not belong here"),
        ("{moduleURI: x, installPath: 'a b'}", "installPath: has characters that do not belong here"),
        ('{moduleURI: x, installPath: ., flags: "\'"}', "flags: cannot be split into words"),
        ("{moduleURI: x, installPath: ., envvars: [GOOS]}", "envvars: item 0 is no setting (expected KEY=VALUE"),
        ("{moduleURI: x, installPath: ., capabilities: x}", "capabilities: not what belongs here"),
        ("{moduleURI: x, installPath: ., capabilities: [x]}", "capabilities[0]: not what belongs here"),
    ],
)
def test_what_an_entry_cannot_say_is_refused(write: Write, text: str, said: str) -> None:
    fault = entry(write, text)
    assert said in fault
    assert fault.startswith("plugins.yaml:1:")
    assert "hunter2" not in fault


def test_a_started_module_needs_a_good_id(write: Write) -> None:
    text = "plugins: {Not An Id: [{moduleURI: x, installPath: ., capabilities: [a@1.0.0]}]}"
    assert "'Not An Id' is no provider's id" in faults_of(write(text))[0]


def test_of_a_disabled_entry_only_the_shape_is_checked(write: Write) -> None:
    text = "plugins: {a: [{enabled: false, moduleURI: 'x@v1 y', installPath: 'a b', flags: \"'\"}]}"
    assert len(load_plugins([write(text)]).entries) == 1


def test_every_unknown_key_suggests_the_one_that_was_meant(write: Write) -> None:
    for key in ENTRY_KEYS:
        mistyped = key[:-1] + ("x" if key[-1] != "x" else "y")
        if len(key) > 2:
            assert f"did you mean {key}?" in entry(write, f"{{package: p, {mistyped}: 1}}")


DUPLICATES = [
    ("{a: [{id: x, package: p}], b: [{id: x, package: q}]}", "the id 'x' is given more than once"),
    ("{a: [{package: p}], b: [{package: P}]}", "the package 'p' is given more than once"),
    ("{a: [{package: ./p}, {package: ./p}]}", "the package './p' is given more than once"),
    ("{a: [{package: p}, {enabled: false, package: p}]}", "the package 'p' is given more than once"),
    (
        "{a: [{moduleURI: x, installPath: .}, {enabled: false, moduleURI: x, installPath: .}]}",
        "the module 'a:x:.' is given more than once",
    ),
    (
        "{a: [{moduleURI: x, installPath: ., capabilities: [a@1.0.0]}, {moduleURI: y, installPath: .}]}",
        "the id 'a' is given more than once",
    ),
    (
        "{a: [{moduleURI: x, installPath: ., capabilities: [a@1.0.0]}], b: [{id: a, package: p}]}",
        "the id 'a' is given more than once",
    ),
]


@pytest.mark.parametrize(("plugins", "said"), DUPLICATES)
def test_duplicates_in_a_file_are_faults_of_all_of_them(write: Write, plugins: str, said: str) -> None:
    found = [fault for fault in faults_of(write(f"plugins: {plugins}")) if said in fault]
    assert len(found) == 2
    assert all("also in " in fault for fault in found)


def test_several_modules_of_a_group_that_are_only_built_are_no_duplicates(write: Write) -> None:
    text = "plugins: {a: [{moduleURI: x, installPath: .}, {moduleURI: x, installPath: ./b}]}"
    assert len(load_plugins([write(text)]).entries) == 2


def test_the_same_module_in_another_group_is_no_duplicate(write: Write) -> None:
    text = "plugins: {a: [{moduleURI: x, installPath: .}], b: [{moduleURI: x, installPath: .}]}"
    assert len(load_plugins([write(text)]).entries) == 2


def test_across_files_only_enabled_duplicates_count(write: Write) -> None:
    enabled = write("plugins: {a: [{package: p}]}", "one.yaml")
    disabled = write("plugins: {a: [{package: p, enabled: false}]}", "two.yaml")
    assert len(load_plugins([enabled, disabled]).entries) == 2
    again = write("plugins: {b: [{package: p}]}", "three.yaml")
    assert len(faults_of(enabled, again)) == 2


def test_a_file_given_twice_is_a_fault(write: Write, tmp_path: Path) -> None:
    path = write("plugins: {a: [{package: p}]}")
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    assert "the file is given twice" in faults_of(path, link)[0]


def test_keep_going_leaves_out_what_is_faulty_and_tells_it(write: Write) -> None:
    text = "plugins:\n  a:\n    - {package: p}\n    - {package: q, mode: x}\n    - {package: r}\n"
    config = load_plugins([write(text)], keep_going=True)
    assert [e.package.text for e in config.entries if e.package] == ["p", "r"]
    assert [fault.path for fault in config.faults] == ["plugins.a[1].mode"]


def test_keep_going_keeps_neither_of_two_duplicates(write: Write) -> None:
    text = "plugins: {a: [{id: x, package: p}, {id: x, package: q, visibility: internal}, {package: r}]}"
    config = load_plugins([write(text)], keep_going=True)
    assert [e.package.text for e in config.entries if e.package] == ["r"]


@pytest.mark.parametrize(
    "text",
    [
        "plugins: {a: [",
        "plugins: 5",
        "plugin: {}",
        "",
        "plugins: {a: [{package: p, required: true, mode: x}]}",
        "plugins: {a: [{package: p, required: perhaps}]}",
    ],
)
def test_keep_going_does_not_go_on_without_a_file_or_a_required_entry(write: Write, text: str) -> None:
    with pytest.raises(FaultyConfigError, match="--keep-going leaves out faulty entries, but neither"):
        load_plugins([write(text)], keep_going=True)


def test_a_file_that_is_not_there_is_an_error_also_with_keep_going(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plugins([tmp_path / "missing.yaml"], keep_going=True)


def test_flags_go_before_the_variable_before_the_working_directory(write: Write, tmp_path: Path) -> None:
    default = write("plugins: {}")
    environ = {"INNKEEPER_PLUGINS": "/one.yaml:/two.yaml"}
    assert find_plugins_files([Path("f")], environ, tmp_path) == (Path("f"),)
    assert find_plugins_files([], environ, tmp_path) == (Path("/one.yaml"), Path("/two.yaml"))
    assert find_plugins_files([], {"INNKEEPER_PLUGINS": ""}, tmp_path) == (default,)


def test_without_a_file_the_error_says_where_one_may_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--plugins FILE, INNKEEPER_PLUGINS, or \./plugins\.yaml"):
        find_plugins_files([], {}, tmp_path)


def test_reading_the_default_set_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from innkeeper.config.plugins import load_plugins;"
        f"load_plugins([Path({str(ROOT / 'plugins.yaml')!r})]);"
        "print({name.split('.')[0] for name in sys.modules} & {'google', 'cattrs', 'jsonschema', 'packaging', 'click',"
        "'grpc', 'sqlalchemy', 'importlib_metadata'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "a@1.0.0", "internal", "x y", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["$env", "a", "a@1.0.0", "B"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from([*ENTRY_KEYS, "x"]), VALUES), max_size=3))
def test_any_entries_are_read_or_refused_with_faults_that_have_a_place(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, object]]
) -> None:
    import json

    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(json.dumps({"plugins": {"a": entries}}))
    try:
        config = load_plugins([path])
    except FaultyConfigError as error:
        assert all(fault.origin.line == 1 for fault in error.faults)  # noqa: PT017 - either is fine
    else:
        assert len(config.entries) == len(entries)

"""Manifests: read without running anything, and refused with every fault at once."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.capability import CapabilityType, Visibility
from innkeeper_sdk.errors import ManifestError
from innkeeper_sdk.manifest import (
    MANIFEST_NAME,
    Limit,
    LimitScope,
    LimitType,
    Manifest,
    Method,
    Part,
    parse_manifest,
    read_manifest,
)

LEAST: dict[str, Any] = {"id": "probe", "title": "Probe", "sdk": ">=0.1"}

FULL = """\
id: probe
title: A probe
sdk: ">=0.1,<0.2"
modules:
  - {name: plain, description: Runs in the open}
kinds:
  - name: probe_file
    module: plain
    suffixes: [{suffix: .probe}, {suffix: .probe.b64, encoding: base64}]
    magic: ["00ff", "cafe"]
services: [beat]
commands:
  - {noun: workflow, verb: probe, run: "probe.cli:main", help: Probe it.}
  - {noun: probe, run: "probe.cli:Tool.main"}
capabilities:
  - id: probe:label_1@1.0.0-alpha
    type: trigger
    visibility: public
    where: [host, loop]
    methods:
      Fire: {input: probe.v1.Config, output: probe.v1.Event, idempotent: true, calls: PerWorkflow.Probe.CallLimit}
      "": {}
processes:
  worker: {executable: probe-worker, extra: worker, capabilities: ["probe:label_1@1.0.0-alpha"], needs: [side]}
  side: {executable: probe-side, helper: true}
needs: [other]
attributes:
  probing: {schema: {type: boolean}, default: false, module: plain}
  refused_one: {refused: it was never right}
limits:
  PerWorkflow.Probe.CallLimit: {type: integer, default: 5}
  PerWorkflow.Probe.Size: {type: size, default: 10kb, at_most: PerWorkflow.Probe.Most}
  PerWorkflow.Probe.Most: {type: size, default: 1mb}
  Probe.Wait: {type: duration, default: 1m30s, scope: global}
  Probe.On: {type: boolean, default: true, scope: owner}
errors:
  probe-failed: {title: It failed, explanation: For a reason.}
  probe_unknown: {title: It is not known}
checks:
  - {id: probe-check, run: "probe.checks:run", help: Checks it.}
messages: messages.binpb
config: {type: object, properties: {depth: {type: integer}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / MANIFEST_NAME


def with_(**parts: Any) -> dict[str, Any]:
    return {**LEAST, **parts}


def refusal(document: object) -> str:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(document, path="m.yaml")
    return str(caught.value)


def test_the_least_manifest_contributes_nothing() -> None:
    assert parse_manifest(LEAST, path="m.yaml") == Manifest(id="probe", title="Probe", sdk=">=0.1")


def test_everything_that_a_manifest_can_say_is_read(file: Path) -> None:
    file.write_text(FULL)
    manifest = read_manifest(file)
    assert manifest.modules[0].name == "plain"
    assert [(s.suffix, s.encoding) for s in manifest.kinds[0].suffixes] == [
        (".probe", "none"),
        (".probe.b64", "base64"),
    ]
    assert manifest.kinds[0].magic == ("00ff", "cafe")
    assert [(c.noun, c.verb, c.run) for c in manifest.commands] == [
        ("workflow", "probe", "probe.cli:main"),
        ("probe", None, "probe.cli:Tool.main"),
    ]
    (capability,) = manifest.capabilities
    assert (capability.type, capability.visibility) == (CapabilityType.TRIGGER, Visibility.PUBLIC)
    assert capability.where == (Part.HOST, Part.LOOP)
    assert capability.methods[""] == Method()
    assert capability.methods["Fire"].idempotent
    assert capability.methods["Fire"].calls == "PerWorkflow.Probe.CallLimit"
    assert manifest.processes["worker"].needs == ("side",)
    assert manifest.attributes["probing"].module == "plain"
    assert manifest.limits["Probe.Wait"] == Limit(LimitType.DURATION, "1m30s", LimitScope.GLOBAL)
    assert manifest.errors["probe-failed"].title == "It failed"
    assert manifest.errors["probe_unknown"].title == "It is not known"
    assert manifest.messages == "messages.binpb"
    assert manifest.config == {"type": "object", "properties": {"depth": {"type": "integer"}}}


def test_a_capability_is_internal_and_in_the_host_unless_it_says_otherwise() -> None:
    manifest = parse_manifest(with_(capabilities=[{"id": "a@1.0.0", "type": "action"}]), path="m.yaml")
    assert manifest.capabilities[0].visibility is Visibility.INTERNAL
    assert manifest.capabilities[0].where == (Part.HOST,)


def test_every_fault_is_told_at_once_in_order_with_its_place(file: Path) -> None:
    file.write_text(
        "id: 12\ntitel: x\nsdk: '>=0.1'\ncapabilities:\n  - {id: a@1, type: acton, where: host}\nmodules: abc\n"
    )
    with pytest.raises(ManifestError) as caught:
        read_manifest(file)
    text = str(caught.value)
    assert text.startswith(f"the manifest {file} has 6 faults: ")
    places = [
        f"{file}:1:1: id: not what belongs here (expected text, found 12)",
        f"{file}:1:1: title: the key is missing",
        f"{file}:2:1: titel: unknown key; did you mean title?",
        f"{file}:5:15: capabilities[0].type: not what belongs here (expected one of trigger, action, consensus, "
        "target, combined, found 'acton')",
        f"{file}:5:28: capabilities[0].where: not what belongs here (expected a list, found 'host')",
        f"{file}:6:1: modules: not what belongs here (expected a list, found 'abc')",
    ]
    assert [text.index(place) for place in places] == sorted(text.index(place) for place in places)


def test_an_error_knows_the_provider_and_the_file(file: Path) -> None:
    file.write_text("id: probe\ntitle: x\nsdk: bogus\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(file)
    assert (caught.value.provider, caught.value.path) == ("probe", str(file))


def test_without_the_document_at_hand_faults_say_which_value(file: Path) -> None:
    assert "sdk: not a version range" in refusal(with_(sdk="bogus"))
    assert ":1:1" not in refusal(with_(sdk="bogus"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"[1]", "a manifest is a mapping"),
        (b"a: [", "this is not YAML"),
        (b"id: a\nid: b\n", "given twice"),
        (b"\xff", "not UTF-8"),
        (b"[" * 500_000, "nested too deeply"),
        (b"#" * (2 << 20), "too large"),
    ],
)
def test_what_is_no_manifest_is_refused(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ManifestError, match=said):
        read_manifest(file)


def test_a_missing_manifest_is_refused(file: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        read_manifest(file)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"id": "Probe"}, "id: not an id"),
        ({"id": "a" * 65}, "id: not an id"),
        ({"id": "probe\n"}, "id: not an id"),
        ({"title": " "}, "title: the title is empty"),
        ({"sdk": "0.1"}, "sdk: not a version range"),
        ({"sdk": 0.1}, "sdk: not what belongs here (expected text"),
        ({"needs": ["probe"]}, "a provider cannot need itself"),
        ({"needs": ["A B"]}, "needs[0]: not an id"),
        ({"messages": "../x"}, "messages: not a file beside the manifest"),
        ({"messages": "/etc/passwd"}, "messages: not a file beside the manifest"),
        ({"modules": [{"name": "a"}, {"name": "a"}]}, "the module type 'a' is declared twice"),
        ({"modules": [{"name": "A"}]}, "modules[0].name: not a name"),
        ({"kinds": [{"name": "k", "module": "m"}]}, "kinds[0].module: the module type is not declared"),
        ({"capabilities": [{"id": "a@1", "type": "action"}]}, "capabilities[0].id: not a capability's id"),
        (
            {"capabilities": [{"id": "a" * 123 + "@1.0.0", "type": "action"}]},
            "capabilities[0].id: not a capability's id",
        ),
        ({"capabilities": [{"id": "a@1.0.0\n", "type": "action"}]}, "capabilities[0].id: not a capability's id"),
        ({"capabilities": [{"id": "a@1.0.0", "type": "action"}] * 2}, "the capability 'a@1.0.0' is declared twice"),
        ({"capabilities": [{"id": "a@1.0.0", "type": "action", "where": []}]}, "where: says where it can run"),
        (
            {"capabilities": [{"id": "a@1.0.0", "type": "action", "methods": {"Do": {"input": "a b"}}}]},
            "methods.Do.input: not a message",
        ),
        (
            {"capabilities": [{"id": "a@1.0.0", "type": "action", "methods": {"Do": {"calls": "X"}}}]},
            "methods.Do.calls: not a limit of this manifest",
        ),
        ({"modules": [{"name": "m"}], "kinds": [{"name": "a b", "module": "m"}]}, "kinds[0].name: not a name"),
        ({"attributes": {"a b": {}}}, "not an attribute's key"),
        ({"processes": {"P": {"executable": "a"}}}, "not a process's name"),
        (
            {"processes": {"p": {"executable": "a", "helper": True, "capabilities": ["a@1.0.0"]}}},
            "processes.p.capabilities: a helper speaks no LOOP wire",
        ),
        ({"processes": {"host": {"executable": "a"}}}, "not a process's name"),
        ({"processes": {"p": {"executable": "a"}}}, "processes.p.capabilities: a process that is no helper serves"),
        (
            {"processes": {"p": {"executable": "a", "helper": True, "needs": ["q"]}, "q": {"executable": "b"}}},
            "processes.p.needs: a helper is started before what needs it",
        ),
        (
            {
                "capabilities": [{"id": "a@1.0.0", "type": "action", "where": ["loop"]}],
                "processes": {
                    "p": {"executable": "a", "capabilities": ["a@1.0.0"]},
                    "q": {"executable": "a", "capabilities": ["a@1.0.0"]},
                },
            },
            "processes.q.capabilities[0]: the capability is served by p already",
        ),
        (
            {
                "capabilities": [{"id": "a@1.0.0", "type": "action", "where": ["loop"]}],
                "processes": {"p": {"executable": "a", "capabilities": ["a@1.0.0", "a@1.0.0"]}},
            },
            "processes.p.capabilities[1]: the capability is served by p already",
        ),
        (
            {"capabilities": [{"id": "a@1.0.0", "type": "action", "where": ["host", "loop"]}]},
            "capabilities[0].where: no process serves it",
        ),
        ({"id": "innkeeper"}, "the id is the host's own"),
        ({"processes": {"p": {"executable": "a/b"}}}, "processes.p.executable: not a command"),
        (
            {"processes": {"p": {"executable": "a", "needs": ["q"]}}},
            "processes.p.needs[0]: the process is not declared",
        ),
        ({"processes": {"p": {"executable": "a", "needs": ["p"]}}}, "processes need each other"),
        (
            {"processes": {"p": {"executable": "a", "capabilities": ["a@1.0.0"]}}},
            "processes.p.capabilities[0]: not a capability of this manifest that can run as a process",
        ),
        ({"commands": [{"noun": "X", "run": "a:b"}]}, "commands[0].noun: not a word"),
        ({"commands": [{"noun": "x", "run": "os"}]}, "commands[0].run: not a function"),
        ({"commands": [{"noun": "x", "run": "a:b"}] * 2}, "the command 'x' is declared twice"),
        ({"checks": [{"id": "x", "run": "a"}]}, "checks[0].run: not a function"),
        ({"errors": {"_code": {"title": "x"}}}, "not an error's code"),
        ({"errors": {"Bad Code": {"title": "x"}}}, "not an error's code"),
        ({"attributes": {"k": {"module": "m"}}}, "attributes.k.module: the module type is not declared"),
        ({"attributes": {"k": {"schema": {"type": "boolean"}, "default": 5}}}, "attributes.k.default: does not fit"),
        ({"attributes": {"k": {"schema": {"type": 5}}}}, "attributes.k.schema.type: not a JSON Schema"),
        ({"attributes": {"k": {"schema": {"$ref": "http://x/y"}}}}, "a schema refers only to itself"),
        ({"config": {"type": 5}}, "config.type: not a JSON Schema"),
        ({"config": [1]}, "config: not what belongs here (expected a mapping, found a list)"),
        (
            {"limits": {"A": {"type": "size", "default": "10s"}}},
            "limits.A.default: no size (expected one such as 100kb",
        ),
        ({"limits": {"A": {"type": "duration", "default": "5"}}}, "limits.A.default: no duration"),
        ({"limits": {"A": {"type": "integer", "default": True}}}, "limits.A.default: no integer"),
        ({"limits": {"A": {"type": "integer", "default": -1}}}, "limits.A.default: no integer"),
        ({"limits": {"A": {"type": "boolean", "default": 1}}}, "limits.A.default: no boolean"),
        ({"limits": {"A": {"type": "boolean", "default": None}}}, "limits.A.default: not what belongs here"),
        ({"limits": {"A b": {"type": "integer", "default": 1}}}, "not a limit's name"),
        (
            {
                "limits": {
                    "A": {"type": "size", "default": "1kb", "at_most": "B"},
                    "B": {"type": "integer", "default": 1},
                }
            },
            "limits.A.at_most: B is a integer",
        ),
        ({"capabilities": {"a": 1}}, "capabilities: not what belongs here (expected a list, found a mapping)"),
        ({"processes": []}, "processes: not what belongs here (expected a mapping, found a list)"),
        ({"modules": [{"nam": "x"}]}, "modules[0].nam: unknown key; did you mean name?"),
        ({"modules": ["x"]}, "modules[0]: not what belongs here (expected a mapping, found 'x')"),
        ({"processes": {"p": None}}, "processes.p: not what belongs here (expected a mapping, found nothing)"),
        ({"services": [1]}, "services[0]: not what belongs here (expected text, found 1)"),
    ],
)
def test_what_does_not_hold_is_refused(parts: dict[str, Any], said: str) -> None:
    assert said in refusal(with_(**parts))


@pytest.mark.parametrize(
    ("suffixes", "magic", "said"),
    [
        ([{"suffix": "x"}], [], "not a file name's ending"),
        ([{"suffix": "."}], [], "not a file name's ending"),
        ([{"suffix": ".a/b"}], [], "not a file name's ending"),
        ([{"suffix": ".a", "encoding": "gzip"}], [], "unknown encoding"),
        ([{"suffix": ".a"}, {"suffix": ".a"}], [], "the suffix belongs to k already"),
        ([], ["zz"], "not hexadecimal"),
        ([], [""], "not hexadecimal"),
        ([], ["0"], "not hexadecimal"),
    ],
)
def test_kinds_have_good_suffixes_and_magic(suffixes: list[Any], magic: list[str], said: str) -> None:
    kinds = [{"name": "k", "module": "m", "suffixes": suffixes, "magic": magic}]
    assert said in refusal(with_(modules=[{"name": "m"}], kinds=kinds))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([*Manifest.__annotations__, "unknown"])


@given(st.dictionaries(KEYS, VALUES))
def test_any_document_is_a_manifest_or_a_manifest_error(document: dict[str, Any]) -> None:
    with suppress(ManifestError):
        assert isinstance(parse_manifest({**LEAST, **document}, path="m.yaml"), Manifest)


def test_reading_imports_nothing_of_the_provider(tmp_path: Path) -> None:
    package = tmp_path / "probe_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / MANIFEST_NAME).write_text("id: probe\ntitle: x\nsdk: '>=0'\n")
    code = (
        "import sys; from pathlib import Path; from innkeeper_sdk.manifest import read_manifest;"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        f"print(read_manifest(Path({str(package / MANIFEST_NAME)!r})).id, 'probe_package' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "probe False\n"

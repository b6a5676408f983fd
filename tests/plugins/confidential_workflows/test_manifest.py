"""The manifest of confidential-workflows, as the host reads it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from innkeeper.modules.attributes import AttributeDeclarations, binding, declare_attributes, parse_attributes
from innkeeper.modules.messages import Messages
from innkeeper_confidential_workflows.attestation import Code
from innkeeper_confidential_workflows.exchange import CAPABILITY, ConfidentialFailedError
from innkeeper_confidential_workflows.module import GATE, ConfidentialDisabledError, ResultUnverifiedError
from innkeeper_confidential_workflows.nsm import AuthorityError
from innkeeper_confidential_workflows.relay.capability import RELAY
from innkeeper_sdk.capability import Visibility
from innkeeper_sdk.errors import UnavailableError, WorkflowError
from innkeeper_sdk.manifest import MANIFEST_NAME, Manifest, Part, read_manifest
from innkeeper_sdk.schemas import apply_schema


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = find_spec("innkeeper_confidential_workflows")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / MANIFEST_NAME)


@pytest.fixture(scope="module")
def declared(manifest: Manifest) -> AttributeDeclarations:
    found = declare_attributes([manifest])
    assert not found.errors
    return found


def test_nothing_that_it_registers_is_for_workflows(manifest: Manifest) -> None:
    where = {item.id: (item.visibility, tuple(item.where)) for item in manifest.capabilities}
    assert where == {
        CAPABILITY: (Visibility.INTERNAL, (Part.LOOP,)),
        RELAY: (Visibility.INTERNAL, (Part.HOST,)),
    }


def test_what_has_effects_is_not_idempotent(manifest: Manifest) -> None:
    repeatable = {
        (item.id, name) for item in manifest.capabilities for name, method in item.methods.items() if method.idempotent
    }
    assert repeatable == {(CAPABILITY, "ProvidedTees"), (RELAY, "Configuration"), (RELAY, "Challenge")}


def test_it_declares_no_kind_so_that_no_workflow_comes_to_it_by_its_file(manifest: Manifest) -> None:
    assert not manifest.kinds
    assert [module.name for module in manifest.modules] == ["confidential"]


def test_the_process_needs_its_launcher_which_speaks_no_wire(manifest: Manifest) -> None:
    process, launcher = manifest.processes["confidential-workflows"], manifest.processes["launcher"]
    assert (tuple(process.capabilities), tuple(process.needs)) == ((CAPABILITY,), ("launcher",))
    assert launcher.helper
    assert not launcher.capabilities


def test_the_gate_is_shut_unless_it_is_opened(manifest: Manifest) -> None:
    assert manifest.limits[GATE].default is False


@pytest.mark.parametrize(
    ("config", "good"),
    [
        ({"backend": "simulated"}, True),
        ({"backend": "simulated", "region": "eu-central-1"}, True),
        ({}, False),
        ({"backend": "nitro"}, False),
        ({"backend": "SIMULATED"}, False),
        ({"backend": "simulated", "region": ""}, False),
        ({"backend": "simulated", "roots": "mine.pem"}, False),
        ({"region": "local"}, False),
    ],
)
def test_the_backend_is_named_and_nothing_else_is_taken(manifest: Manifest, config: Any, good: bool) -> None:
    assert manifest.config is not None
    assert (not apply_schema(manifest.config, config)) is good


def test_every_method_takes_messages_that_its_file_declares(manifest: Manifest, folder: Path) -> None:
    messages = Messages()
    assert manifest.messages is not None
    data = (folder / manifest.messages).read_bytes()
    assert FileDescriptorSet.FromString(data).file
    messages.add(manifest.id, data)
    for capability in manifest.capabilities:
        for name, method in capability.methods.items():
            for message in (method.input, method.output):
                assert message is not None
                assert messages.find(message) is not None, (capability.id, name, message)


def test_every_error_is_explained(manifest: Manifest, folder: Path) -> None:
    texts = [path.read_text() for path in folder.rglob("*.py")]
    raised = {code for text in texts for code in re.findall(r'^    code(?:: .*)? = "(.+)"$', text, re.MULTILINE)}
    classes = (ConfidentialFailedError, ConfidentialDisabledError, ResultUnverifiedError, AuthorityError)
    assert raised >= {cls.code for cls in classes}
    assert raised <= set(manifest.errors)
    explained = manifest.errors["attestation-refused"].explanation
    assert [code for code in Code if code not in explained] == []


@pytest.mark.parametrize("code", Code)
def test_every_code_of_a_refusal_is_explained(manifest: Manifest, code: Code) -> None:
    declared = manifest.errors[code.value]
    assert declared.title
    assert declared.explanation.endswith(".")


def test_a_code_that_nothing_gives_says_so(manifest: Manifest, folder: Path) -> None:
    vault = find_spec("innkeeper_vault")
    assert vault is not None
    assert vault.origin is not None
    source = "".join(path.read_text() for place in (folder, Path(vault.origin).parent) for path in place.rglob("*.py"))
    silent = {code.value for code in Code if f"Code.{code.name}" not in source}
    assert silent == {code.value for code in Code if "does not give it" in manifest.errors[code.value].explanation}


# Attributes: what confidential means, and that it is never guessed.


@pytest.mark.parametrize("text", [None, b"", b"{}", b'{"confidential": false}'])
def test_without_the_attribute_a_workflow_is_bound_to_nothing(
    declared: AttributeDeclarations, text: bytes | None
) -> None:
    assert binding(parse_attributes(text, declared.keys), declared.keys) is None


def test_a_confidential_workflow_is_bound_whole(declared: AttributeDeclarations) -> None:
    bound = binding(parse_attributes(b'{"confidential": true}', declared.keys), declared.keys)
    assert bound is not None
    assert (bound.provider_id, bound.module, bound.keys) == (
        "confidential-workflows",
        "confidential",
        ("confidential",),
    )


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"null",
        b"[]",
        b"true",
        b'"confidential"',
        b'{"confidential": true} x',
        b'{"confidential": true, "confidential": false}',
        b'{"confidential": "true"}',
        b'{"confidential": 1}',
        b'{"confidential": 0}',
        b'{"confidential": null}',
        b'{"confidential": {}}',
        b'{"Confidential": true}',
        b'{"CONFIDENTIAL": true}',
        b'{"confidential ": true}',
        b"\xff",
    ],
)
def test_malformed_attributes_are_an_error_and_never_a_no(declared: AttributeDeclarations, text: bytes) -> None:
    with pytest.raises(WorkflowError, match="attribute"):
        parse_attributes(text, declared.keys)


@pytest.mark.parametrize("value", ["[]", "null", '[{"key": "K"}]', "false"])
def test_secrets_declared_ahead_are_refused_with_the_reason(declared: AttributeDeclarations, value: str) -> None:
    with pytest.raises(WorkflowError, match="secrets are fetched at run time"):
        parse_attributes(f'{{"confidential": true, "vault_don_secrets": {value}}}', declared.keys)


def test_a_stored_workflow_without_its_provider_waits() -> None:
    nobody = declare_attributes([])
    with pytest.raises(UnavailableError, match="confidential"):
        parse_attributes(b'{"confidential": true}', nobody.keys, stored=True)

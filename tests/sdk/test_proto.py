"""The messages and services we generate are, byte for byte, those of the wire.

`tests/protos/interface.txt` holds the names, numbers and types that the reference has; the golden bytes
were made by other implementations.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_tools import protoc
from packaging.requirements import Requirement
from packaging.version import Version

import innkeeper_cron.proto
import innkeeper_sdk.proto
from innkeeper_cron.proto.capabilities.scheduler.cron.v1 import trigger_pb2
from innkeeper_sdk.proto.capabilities import capabilities_pb2
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2
from innkeeper_sdk.proto.values.v1 import values_pb2

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "tests/protos"
CRON = ROOT / "plugins/cron/src/innkeeper_cron"
DISTRIBUTIONS = sorted(
    str(path.parent.relative_to(ROOT))
    for pattern in ("*/pyproject.toml", "plugins/*/pyproject.toml")
    for path in ROOT.glob(pattern)
)
OURS = "innkeeper.control.v1"  # our own protocol: no reference says what it must be

SCALARS = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def generated(package: ModuleType, suffix: str) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    return [importlib.import_module(module.name) for module in found if module.name.endswith(suffix)]


MODULES = generated(innkeeper_sdk.proto, "_pb2") + generated(innkeeper_cron.proto, "_pb2")
STUBS = generated(innkeeper_sdk.proto, "_pb2_grpc")


def in_package(full_name: str, package: str) -> str:
    return full_name.removeprefix(f"{package}.").removeprefix("google.protobuf.")


def type_name(field: FieldDescriptor, package: str) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"map<{type_name(key, package)},{type_name(value, package)}>"
    composite = field.message_type or field.enum_type
    name = in_package(composite.full_name, package) if composite is not None else SCALARS[field.type]
    return name + ("[]" if field.is_repeated else "")


def describe_field(field: FieldDescriptor, package: str) -> str:
    oneof = field.containing_oneof
    prefix = "" if oneof is None else "?" if oneof.name == f"_{field.name}" else f"{oneof.name}/"
    return f"{prefix}{field.name}:{field.number} {type_name(field, package)}"


def describe_messages(messages: list[Descriptor], package: str) -> Iterator[tuple[str, str]]:
    for message in messages:
        if message.GetOptions().map_entry:
            continue
        fields = sorted(message.fields, key=lambda field: field.number)
        name = in_package(message.full_name, package)
        yield f"message {name}", ", ".join(describe_field(field, package) for field in fields)
        yield from describe_messages(list(message.nested_types), package)
        yield from describe_enums(list(message.enum_types), package)


def describe_enums(enums: list[EnumDescriptor], package: str) -> Iterator[tuple[str, str]]:
    for enum in enums:
        values = ", ".join(f"{value.name}:{value.number}" for value in enum.values)
        yield f"enum {in_package(enum.full_name, package)}", values


def describe_method(method: MethodDescriptor, package: str) -> tuple[str, str]:
    request, reply = (
        ("stream " if streaming else "") + in_package(message.full_name, package)
        for streaming, message in (
            (method.client_streaming, method.input_type),
            (method.server_streaming, method.output_type),
        )
    )
    return f"rpc /{method.containing_service.full_name}/{method.name}", f"{request} -> {reply}"


def described() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for file in (module.DESCRIPTOR for module in MODULES):
        if file.package == OURS:
            continue
        entries = [
            *describe_messages(list(file.message_types_by_name.values()), file.package),
            *describe_enums(list(file.enum_types_by_name.values()), file.package),
            *(
                describe_method(method, file.package)
                for service in file.services_by_name.values()
                for method in service.methods
            ),
        ]
        found.update({(file.package, name): text for name, text in entries})
    return found


def documented() -> dict[tuple[str, str], str]:
    lines: list[str] = []
    for line in (PROTOS / "interface.txt").read_text().splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line and not line.startswith("#"):
            lines.append(line)
    found: dict[tuple[str, str], str] = {}
    package = ""
    for line in lines:
        if line.startswith("package "):
            package = line.removeprefix("package ")
        else:
            name, _, text = line.partition(":")
            found[package, name] = text.strip()
    return found


DESCRIBED, DOCUMENTED = described(), documented()


@pytest.mark.parametrize(("package", "name"), DOCUMENTED)
def test_names_numbers_and_types_are_those_of_the_wire(package: str, name: str) -> None:
    assert DESCRIBED.get((package, name)) == DOCUMENTED[package, name]


def test_nothing_is_generated_that_the_wire_does_not_know() -> None:
    assert DESCRIBED.keys() <= DOCUMENTED.keys()


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (values_pb2.Value, [8]),
        (sdk_pb2.ExecuteRequest, [6]),
        (capabilities_pb2.RequestMetadata, [5]),
        (capabilities_pb2.TriggerEvent, [5]),
    ],
)
def test_numbers_that_were_once_used_stay_reserved(message: type[Message], numbers: list[int]) -> None:
    declared = descriptor_pb2.DescriptorProto()
    message.DESCRIPTOR.CopyToProto(declared)
    assert [n for span in declared.reserved_range for n in range(span.start, span.end)] == numbers


class Channel:
    """Records which method paths a stub asks a channel for, and of which kind."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[bool, bool]] = {}

    def _recorder(self, *streaming: bool) -> Callable[..., None]:
        def record(path: str, **_: object) -> None:
            self.calls[path] = (streaming[0], streaming[1])

        return record

    def __getattr__(self, name: str) -> Callable[..., None]:
        request, reply = name.split("_")
        return self._recorder(request == "stream", reply == "stream")


@pytest.mark.parametrize("stubs", STUBS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_stubs_call_every_method_by_its_path_and_kind(stubs: ModuleType) -> None:
    channel = Channel()
    for name in dir(stubs):
        if name.endswith("Stub"):
            getattr(stubs, name)(channel)
    file = importlib.import_module(stubs.__name__.removesuffix("_grpc")).DESCRIPTOR
    assert channel.calls == {
        f"/{service.full_name}/{method.name}": (method.client_streaming, method.server_streaming)
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_each_service_has_its_stub_and_servicer() -> None:
    names = {
        service.name: importlib.import_module(f"{module.__name__}_grpc")
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    assert names
    for name, module in names.items():
        assert {f"{name}Stub", f"{name}Servicer", f"add_{name}Servicer_to_server"} <= set(dir(module))


def test_every_generated_module_lies_in_a_regular_package() -> None:
    for module in MODULES + STUBS:
        assert module.__file__ is not None
        assert (Path(module.__file__).parent / "__init__.py").is_file()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_no_version_is_allowed_that_the_generated_code_refuses(distribution: str) -> None:
    tree = ROOT / distribution
    code = "\n".join(path.read_text() for path in tree.rglob("src/*/proto/**/*_pb2*.py"))
    needed = {
        "protobuf": re.search(r"^# Protobuf Python Version: (.+)$", code, re.MULTILINE),
        "grpcio": re.search(r"^GRPC_GENERATED_VERSION = '(.+)'$", code, re.MULTILINE),
    }
    declared = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = {
        requirement.name: Version(clause.version)
        for requirement in map(Requirement, declared)
        for clause in requirement.specifier
        if clause.operator == ">="
    }
    refused = {name for name, found in needed.items() if found and lowest[name] < Version(found[1])}
    assert refused == set()


# Golden bytes.

CONFIG = "0a0d30202a2f35202a202a202a202a"
CONFIG_ANY = (
    "0a39747970652e676f6f676c65617069732e636f6d2f6361706162696c69746965732e7363686564756c65722e63726f6e2e"
    "76312e436f6e666967120f" + CONFIG
)
PAYLOAD = "0a0608acf4d6ca06"
PAYLOAD_ANY = (
    "0a3a747970652e676f6f676c65617069732e636f6d2f6361706162696c69746965732e7363686564756c65722e63726f6e2e"
    "76312e5061796c6f61641208" + PAYLOAD
)
HTTP_REQUEST = (
    "0a1968747470733a2f2f6170692e6578616d706c652e636f6d2f701204504f535422077b2261223a317d2a02080532060801"
    "1202083c3a220a0c436f6e74656e742d5479706512120a106170706c69636174696f6e2f6a736f6e"
)


def packed(message: trigger_pb2.Config | trigger_pb2.Payload) -> Any:
    holder = Any()
    holder.Pack(message, deterministic=True)
    return holder


def cron_config() -> Any:
    return packed(trigger_pb2.Config(schedule="0 */5 * * * *"))


def cron_payload() -> Any:
    return packed(trigger_pb2.Payload(scheduled_execution_time=Timestamp(seconds=1767225900)))


def subscribe_result() -> sdk_pb2.ExecutionResult:
    subscription = sdk_pb2.TriggerSubscription(id="cron-trigger@1.0.0", payload=cron_config(), method="Trigger")
    subscriptions = sdk_pb2.TriggerSubscriptionRequest(subscriptions=[subscription])
    return sdk_pb2.ExecutionResult(trigger_subscriptions=subscriptions)


def node_mode_call() -> sdk_pb2.CapabilityRequest:
    url = "type.googleapis.com/capabilities.networking.http.v1alpha.Request"
    payload = Any(type_url=url, value=bytes.fromhex(HTTP_REQUEST))
    return sdk_pb2.CapabilityRequest(
        id="http-actions@1.0.0-alpha", payload=payload, method="SendRequest", callback_id=-1
    )


def median(value: float) -> sdk_pb2.SimpleConsensusInputs:
    descriptor = sdk_pb2.ConsensusDescriptor(aggregation=sdk_pb2.AGGREGATION_TYPE_MEDIAN)
    return sdk_pb2.SimpleConsensusInputs(value=values_pb2.Value(float64_value=value), descriptors=descriptor)


def failed_observation() -> sdk_pb2.SimpleConsensusInputs:
    descriptor = sdk_pb2.ConsensusDescriptor(aggregation=sdk_pb2.AGGREGATION_TYPE_IDENTICAL)
    return sdk_pb2.SimpleConsensusInputs(error="boom", descriptors=descriptor, default=values_pb2.Value())


GOLDEN = {
    "cron config": (trigger_pb2.Config(schedule="0 */5 * * * *"), CONFIG),
    "cron config in Any": (cron_config(), CONFIG_ANY),
    "cron payload in Any": (cron_payload(), PAYLOAD_ANY),
    "subscribe result": (
        subscribe_result(),
        "1a6d0a6b0a1263726f6e2d7472696767657240312e302e30124c" + CONFIG_ANY + "1a0754726967676572",
    ),
    "execute request": (
        sdk_pb2.ExecuteRequest(
            trigger=sdk_pb2.Trigger(id=0, payload=cron_payload()), max_response_size=5 * 1024 * 1024
        ),
        "1a481246" + PAYLOAD_ANY + "208080c002",
    ),
    "subscribe request": (sdk_pb2.ExecuteRequest(subscribe=Empty()), "1200"),
    "median of a number": (median(1.5), "0a0959000000000000f83f1a020801"),
    "failed observation, empty default": (failed_observation(), "1204626f6f6d1a0208022200"),
    "call in node mode": (
        node_mode_call(),
        "0a18"
        + b"http-actions@1.0.0-alpha".hex()
        + "129e01"
        + "0a40"
        + b"type.googleapis.com/capabilities.networking.http.v1alpha.Request".hex()
        + "125a"
        + HTTP_REQUEST
        + "1a0b"
        + b"SendRequest".hex()
        + "20ffffffffffffffffff01",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes_are_written_and_read(name: str) -> None:
    message, golden = GOLDEN[name]
    assert message.SerializeToString(deterministic=True).hex() == golden
    assert type(message).FromString(bytes.fromhex(golden)) == message


def test_unlimited_of_older_guests_reads_as_the_largest_counter() -> None:
    minus_one = "ffffffffffffffffff01"
    method = sdk_pb2.MethodRestriction.FromString(bytes.fromhex("18" + minus_one))
    total = sdk_pb2.CapabilityRestrictions.FromString(bytes.fromhex("10" + minus_one))
    secrets = sdk_pb2.SecretsRestritions.FromString(bytes.fromhex("10" + minus_one))
    prefix = sdk_pb2.SecretPrefixRestriction.FromString(bytes.fromhex("18" + minus_one))
    assert {method.max_calls, total.max_total_calls, secrets.max_secrets, prefix.max_secrets} == {2**32 - 1}


def test_awaited_ids_are_packed() -> None:
    assert sdk_pb2.AwaitCapabilitiesRequest(ids=[1, 2]).SerializeToString().hex() == "0a020102"


# Compiled sets of descriptors.


def load(path: Path, pool: descriptor_pool.DescriptorPool | None = None) -> descriptor_pool.DescriptorPool:
    pool = pool or descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        assert not file.HasField("source_code_info")
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def add(file: FileDescriptor, pool: descriptor_pool.DescriptorPool) -> None:
    for imported in file.dependencies:
        add(imported, pool)
    pool.AddSerializedFile(file.serialized_pb)


def test_the_providers_descriptors_are_enough_to_read_its_messages_without_it() -> None:
    pool = load(CRON / "messages.binpb")
    payload = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("capabilities.scheduler.cron.v1.Payload")
    ).FromString(bytes.fromhex(PAYLOAD))
    assert payload.scheduled_execution_time.seconds == 1767225900  # type: ignore[attr-defined]  # made at run time


def test_the_protos_of_the_test_capabilities_compile_and_load_beside_ours(tmp_path: Path) -> None:
    out = tmp_path / "tests.binpb"
    names = sorted(path.name for path in PROTOS.glob("*.proto"))
    wellknown = Path(protoc.__file__).parent / "_proto"
    command = ["protoc", f"-I{PROTOS}", f"-I{wellknown}", f"--descriptor_set_out={out}", *names]
    assert protoc.main(command) == 0
    pool = descriptor_pool.DescriptorPool()
    for module in MODULES:
        add(module.DESCRIPTOR, pool)
    found = load(out, pool).FindMessageTypeByName("capabilities.internal.basicaction.v1.Inputs")
    assert message_factory.GetMessageClass(found)(input_thing=True).SerializeToString().hex() == "0801"

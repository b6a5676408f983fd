"""Messages of providers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import any_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.modules.messages import Messages
from innkeeper_sdk.errors import ManifestError, UsageError
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import CapabilityRequest
from innkeeper_sdk.proto.values.v1 import values_pb2

ROOT = Path(__file__).parents[3]
STRING, INT64, MESSAGE = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_INT64,
    FieldDescriptorProto.TYPE_MESSAGE,
)


def message(name: str, *fields: tuple[str, int, FieldDescriptorProto.Type.ValueType, str]) -> DescriptorProto:
    """Return a message; a field is its name, number, type, and the message that it is of, or nothing."""
    proto = DescriptorProto(name=name)
    for field_name, number, type_, of in fields:
        proto.field.add(
            name=field_name,
            number=number,
            type=type_,
            type_name=f".{of}" if of else None,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    return proto


def file(name: str, package: str, *messages: DescriptorProto, imports: tuple[str, ...] = ()) -> FileDescriptorProto:
    return FileDescriptorProto(name=name, package=package, message_type=messages, dependency=imports, syntax="proto3")


def compiled(*files: FileDescriptorProto) -> bytes:
    return FileDescriptorSet(file=files).SerializeToString()


def copy_of(module: object) -> FileDescriptorProto:
    """Return the file that a generated module was made of."""
    proto = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)  # type: ignore[attr-defined] # generated modules have it
    return proto


TIMESTAMP = copy_of(timestamp_pb2)
TICK = file(
    "clock.proto",
    "clock.v1",
    message("Tick", ("at", 1, MESSAGE, "google.protobuf.Timestamp"), ("count", 2, INT64, ""), ("note", 3, STRING, "")),
    imports=("google/protobuf/timestamp.proto",),
)
CLOCK = compiled(TIMESTAMP, TICK)


@pytest.fixture
def messages() -> Messages:
    messages = Messages()
    messages.add("clock", CLOCK)
    return messages


def test_json_goes_in_and_out(messages: Messages) -> None:
    text = '{"at": "2026-01-01T00:05:00.000000001Z", "count": "9007199254740993", "note": "é"}'
    payload = messages.from_json("clock.v1.Tick", text)
    assert payload.type_url == "type.googleapis.com/clock.v1.Tick"
    shown = messages.to_json(payload)
    assert shown is not None
    assert json.loads(shown) == json.loads(text)
    assert "\n" not in shown
    assert "é" in shown


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_what_was_read_is_shown_again(count: int, note: str) -> None:
    messages = _SHARED
    text = json.dumps({"count": str(count), "note": note})
    back = json.loads(messages.to_json(messages.from_json("clock.v1.Tick", text)) or "")
    assert (int(back.get("count", 0)), back.get("note", "")) == (count, note)


_SHARED = Messages()
_SHARED.add("clock", CLOCK)


def test_messages_of_the_sdk_and_of_protobuf_need_no_provider() -> None:
    messages = Messages()
    value = values_pb2.Value(string_value="x")
    payload = any_pb2.Any()
    payload.Pack(value)
    assert messages.to_json(payload) == '{"stringValue": "x"}'
    assert messages.from_json("values.v1.Value", '{"stringValue": "x"}') == payload
    assert messages.to_json(messages.from_json("google.protobuf.Struct", '{"a": [1, null]}')) == '{"a": [1.0, null]}'
    assert messages.to_json(messages.from_json("google.protobuf.Timestamp", '"2026-01-01T00:00:00Z"')) is not None


def test_a_message_inside_an_any_may_be_of_any_provider(messages: Messages) -> None:
    request = CapabilityRequest(id="x@1.0.0", payload=messages.from_json("clock.v1.Tick", '{"note": "n"}'))
    payload = any_pb2.Any()
    payload.Pack(request)
    shown = messages.to_json(payload)
    assert shown is not None
    assert json.loads(shown)["payload"] == {"@type": "type.googleapis.com/clock.v1.Tick", "note": "n"}
    assert messages.from_json("sdk.v1alpha.CapabilityRequest", shown) == payload
    messages.remove("clock")
    assert messages.to_json(payload) is None


@pytest.mark.parametrize(
    ("type_url", "value"),
    [
        ("type.googleapis.com/nobody.knows.This", b""),
        ("", b""),
        ("type.googleapis.com/", b""),
        ("type.googleapis.com/clock.v1.Tick", b"\xff"),
        ("type.googleapis.com/clock.v1.Tick", b"\x1a\x01\xff"),
        ("type.googleapis.com/clock.v1", b""),
        ("type.googleapis.com/sdk.v1alpha.Mode", b""),
        ("type.googleapis.com/google.protobuf.Timestamp", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ],
)
def test_what_cannot_be_shown_has_no_json(messages: Messages, type_url: str, value: bytes) -> None:
    assert messages.to_json(any_pb2.Any(type_url=type_url, value=value)) is None


@settings(deadline=None)
@given(
    st.binary(), st.sampled_from(["clock.v1.Tick", "values.v1.Value", "google.protobuf.Any", "google.protobuf.Struct"])
)
def test_showing_never_fails(value: bytes, name: str) -> None:
    shown = _SHARED.to_json(any_pb2.Any(type_url=f"x/{name}", value=value))
    assert shown is None or json.loads(shown) is not ...


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("clock.v1.Tick", "", "the JSON is no clock.v1.Tick"),
        ("clock.v1.Tick", "{", "the JSON is no"),
        ("clock.v1.Tick", "[]", "the JSON is no"),
        ("clock.v1.Tick", '{"cuont": 1}', "cuont"),
        ("clock.v1.Tick", '{"count": "x"}', "count"),
        ("clock.v1.Tick", '{"note": "a", "note": "b"}', "note"),
        ("clock.v1.Tick", '{"at": "yesterday"}', "at"),
        ("google.protobuf.Any", '{"@type": "x/nobody.Knows"}', "the JSON is no"),
        ("google.protobuf.Struct", "[" * 100_000, "the JSON is no"),
        ("clock.v1.Tik", "{}", "did you mean clock.v1.Tick"),
        ("quite.Another", "{}", "no enabled provider declares the message quite.Another"),
    ],
)
def test_json_that_is_no_such_message_is_refused_with_what_is_wrong(
    messages: Messages, name: str, text: str, what: str
) -> None:
    with pytest.raises(UsageError) as caught:
        messages.from_json(name, text)
    assert what in str(caught.value)


# Several providers.


def test_two_providers_may_share_files_and_file_names(messages: Messages) -> None:
    other = file("clock.proto", "bell.v1", message("Ring", ("note", 1, STRING, "")))
    messages.add("same", CLOCK)
    messages.add("bell", compiled(other))
    assert messages.to_json(messages.from_json("bell.v1.Ring", '{"note": "x"}')) == '{"note": "x"}'
    messages.remove("clock")
    assert messages.to_json(messages.from_json("clock.v1.Tick", '{"note": "x"}')) == '{"note": "x"}'


def test_comments_options_and_order_make_no_difference(messages: Messages) -> None:
    twin = FileDescriptorProto()
    twin.CopyFrom(TICK)
    twin.options.go_package = "example.com/clock"
    twin.source_code_info.location.add(path=[4, 0], span=[1, 1, 1], leading_comments="x")
    fields = list(twin.message_type[0].field)
    del twin.message_type[0].field[:]
    twin.message_type[0].field.extend(reversed(fields))
    twin.message_type.append(message("Extra"))
    messages.add("twin", compiled(TIMESTAMP, twin))
    assert messages.find("clock.v1.Extra") is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda tick: tick.field[2].MergeFrom(FieldDescriptorProto(name="nota")),
        lambda tick: tick.field[2].MergeFrom(FieldDescriptorProto(number=4)),
        lambda tick: tick.field[2].MergeFrom(FieldDescriptorProto(json_name="zzz")),
        lambda tick: tick.field[2].MergeFrom(FieldDescriptorProto(type=FieldDescriptorProto.TYPE_BYTES)),
        lambda tick: tick.field[2].MergeFrom(FieldDescriptorProto(label=FieldDescriptorProto.LABEL_REPEATED)),
        lambda tick: tick.field.add(name="more", number=9, type=STRING),
        lambda tick: tick.field.pop(),
    ],
)
def test_two_providers_that_define_one_message_differently_are_both_named(
    messages: Messages, change: Callable[[DescriptorProto], object]
) -> None:
    other = FileDescriptorProto()
    other.CopyFrom(TICK)
    change(other.message_type[0])
    with pytest.raises(ManifestError, match=r"providers clock and rival define clock\.v1\.Tick differently") as caught:
        messages.add("rival", compiled(TIMESTAMP, other))
    assert caught.value.provider == "rival"
    assert messages.to_json(messages.from_json("clock.v1.Tick", '{"note": "x"}')) == '{"note": "x"}'


def test_a_message_of_one_is_no_enum_of_another(messages: Messages) -> None:
    rival = FileDescriptorProto(name="r.proto", package="clock.v1", syntax="proto3")
    rival.enum_type.add(name="Tick").value.add(name="ZERO", number=0)
    with pytest.raises(ManifestError, match=r"clock\.v1\.Tick differently"):
        messages.add("rival", compiled(rival))


def test_an_enum_of_two_providers_must_agree(messages: Messages) -> None:
    for provider_id, number in (("one", 1), ("two", 2)):
        enum = FileDescriptorProto(name="e.proto", package="e.v1", syntax="proto3")
        enum.enum_type.add(name="Kind").value.add(name="ZERO", number=0)
        enum.enum_type[0].value.add(name="MORE", number=number)
        if provider_id == "one":
            messages.add(provider_id, compiled(enum))
        else:
            with pytest.raises(ManifestError, match=r"one and two define e\.v1\.Kind differently"):
                messages.add(provider_id, compiled(enum))


def test_a_provider_may_be_added_again_changed(messages: Messages) -> None:
    changed = file("clock.proto", "clock.v1", message("Tick", ("other", 1, STRING, "")))
    messages.add("clock", compiled(changed))
    assert messages.to_json(messages.from_json("clock.v1.Tick", '{"other": "x"}')) == '{"other": "x"}'


# What is not a provider's.


def test_copies_of_the_sdks_files_are_fine_also_under_other_names() -> None:
    messages = Messages()
    values = copy_of(values_pb2)
    values.name = "values/v1/values.proto"
    uses = file(
        "p.proto", "p.v1", message("P", ("value", 1, MESSAGE, "values.v1.Value")), imports=("values/v1/values.proto",)
    )
    messages.add("p", compiled(TIMESTAMP, values, uses))
    text = '{"value": {"int64Value": "5"}}'
    assert messages.to_json(messages.from_json("p.v1.P", text)) == text


def test_the_sdks_own_files_need_not_be_brought() -> None:
    messages = Messages()
    uses = file(
        "p.proto", "p.v1", message("P", ("value", 1, MESSAGE, "values.v1.Value")), imports=(values_pb2.DESCRIPTOR.name,)
    )
    messages.add("p", compiled(uses))
    assert messages.to_json(messages.from_json("p.v1.P", '{"value": {}}')) == '{"value": {}}'


def test_another_version_of_the_descriptor_of_descriptors_is_not_used() -> None:
    old = file("google/protobuf/descriptor.proto", "google.protobuf", message("FileOptions", ("x", 1, STRING, "")))
    uses = file("p.proto", "p.v1", message("P", ("note", 1, STRING, "")), imports=("google/protobuf/descriptor.proto",))
    messages = Messages()
    messages.add("p", compiled(old, uses))
    assert messages.find("p.v1.P") is not None
    options = messages.find("google.protobuf.FileOptions")
    assert options is not None
    assert "go_package" in options.fields_by_name


def _changed(module: object) -> FileDescriptorProto:
    proto = copy_of(module)
    proto.message_type[0].field[0].name = "evil"
    proto.message_type[0].field[0].json_name = "evil"
    return proto


def _added(module: object) -> FileDescriptorProto:
    proto = copy_of(module)
    proto.message_type.append(message("Evil", ("x", 1, STRING, "")))
    return proto


@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (_changed(timestamp_pb2), "google.protobuf.Timestamp"),
        (_added(timestamp_pb2), "google.protobuf.Evil"),
        (file("e.proto", "google.protobuf", message("Timestamp", ("x", 1, STRING, ""))), "google.protobuf.Timestamp"),
        (file("e.proto", "google.protobuf", message("New")), "google.protobuf.New"),
        (file("e.proto", "google.protobuf.deeper", message("New")), "google.protobuf.deeper.New"),
        (file("e.proto", "values.v1", message("Value", ("x", 1, STRING, ""))), "values.v1.Value"),
        (file("e.proto", "sdk.v1alpha", message("New")), "sdk.v1alpha.New"),
        (file("e.proto", "sdk", message("v1alpha")), "sdk.v1alpha"),
        (file("e.proto", "loop", message("New")), "loop.New"),
        (file("e.proto", "innkeeper.control.v1", message("Host", ("x", 1, STRING, ""))), "innkeeper.control.v1.Host"),
        (file("e.proto", "innkeeper.control.later", message("New")), "innkeeper.control.later.New"),
        (file("e.proto", "", message("innkeeper")), "innkeeper"),
    ],
)
def test_what_is_the_sdks_or_protobufs_cannot_be_redefined(evil: FileDescriptorProto, name: str) -> None:
    messages = Messages()
    with pytest.raises(ManifestError, match=f"redefine {name}, ") as caught:
        messages.add("evil", compiled(evil))
    assert caught.value.provider == "evil"
    assert messages.to_json(messages.from_json("google.protobuf.Timestamp", '"2026-01-01T00:00:00Z"')) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        compiled(file("a.proto", "a", imports=("missing.proto",))),
        compiled(file("a.proto", "a", imports=("b.proto",)), file("b.proto", "b", imports=("a.proto",))),
        compiled(file("a.proto", "a", message("A", ("x", 1, MESSAGE, "a.Missing")))),
        compiled(file("a.proto", "a", message("A"), message("A"))),
        compiled(file("a.proto", "a", message("not a name"))),
    ],
)
def test_what_is_no_compiled_set_is_the_providers_error(data: bytes) -> None:
    messages = Messages()
    with pytest.raises(ManifestError, match="no compiled descriptors") as caught:
        messages.add("p", data, path="p/messages.binpb")
    assert (caught.value.provider, caught.value.path) == ("p", "p/messages.binpb")


def test_a_set_of_absurd_size_is_not_read() -> None:
    with pytest.raises(ManifestError, match="too large"):
        Messages().add("p", b"\0" * (16 * 1024 * 1024 + 1))


def test_files_may_come_in_any_order(messages: Messages) -> None:
    messages.add("clock", compiled(TICK, TIMESTAMP))
    assert messages.find("clock.v1.Tick") is not None


def test_the_providers_of_this_house_go_together() -> None:
    sets = sorted(ROOT.glob("plugins/*/src/*/messages.binpb"))
    assert sets
    messages = Messages()
    for path in sets:
        messages.add(path.parent.name, path.read_bytes(), path=str(path))


def test_every_package_of_the_sdk_is_known_here() -> None:
    messages = Messages()
    for proto in (ROOT / "sdk/src/innkeeper_sdk/proto").rglob("*.proto"):
        package = next(line.split()[1].rstrip(";") for line in proto.read_text().splitlines() if line[:8] == "package ")
        with pytest.raises(ManifestError, match="redefine"):
            messages.add("evil", compiled(file("e.proto", package, message("QuiteNew"))))


def test_a_struct_is_shown_as_json() -> None:
    payload = any_pb2.Any()
    payload.Pack(Struct())
    assert Messages().to_json(payload) == "{}"

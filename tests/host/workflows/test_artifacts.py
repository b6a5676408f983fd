"""``artifacts@1.0.0``: the stored bytes, piece by piece, for whoever it is granted to."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from attrs import define, evolve
from google.protobuf.any_pb2 import Any as AnyMessage
from sqlalchemy import update

from innkeeper.capabilities.callers import Operator, ProviderCaller, Right, WorkflowCaller
from innkeeper.capabilities.registry import Registry
from innkeeper.engine.secrets import MemorySecrets
from innkeeper.modules.attributes import Binding
from innkeeper.store.models import workflow_specs
from innkeeper.workflows import artifacts as module
from innkeeper.workflows.artifacts import ARTIFACTS, CHUNK_BYTES, ArtifactReader, Binaries
from innkeeper.workflows.deployment import artifact_locator
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    ErrorCode,
    RequestMetadata,
    Visibility,
)
from innkeeper_sdk.errors import ConflictError, ManifestError, NotFoundError, WorkflowError
from innkeeper_sdk.manifest import HOST_ID, parse_manifest
from innkeeper_sdk.module import WorkflowSpec
from innkeeper_sdk.proto.values.v1.values_pb2 import Map
from innkeeper_sdk.values import unwrap, wrap
from tests.host.engine.engine_world import ScriptedModule
from tests.host.workflows.handler_world import Hosted, ScriptedModules, deployment

LARGE = bytes(range(256)) * 4096 * 2 + b"the rest"
NO_SECRETS = MemorySecrets({})


def asked(**fields: object) -> AnyMessage:
    payload = AnyMessage()
    payload.Pack(Map(fields={name: wrap(value) for name, value in fields.items()}))
    return payload


@define
class Reader:
    """A provider that reads."""

    registry: Registry
    provider_id: str = "friend"

    async def raw(self, payload: AnyMessage, method: str = "Read") -> dict[str, object]:
        request = CapabilityRequest(
            metadata=RequestMetadata("", ""), capability_id=ARTIFACTS.id, method=method, payload=payload
        )
        answer = Map()
        response = await self.registry.bound(self.provider_id).execute(request)
        assert response.payload.Unpack(answer)
        return {name: unwrap(value) for name, value in answer.fields.items()}

    async def piece(self, locator: str, offset: int) -> tuple[bytes, int]:
        answer = await self.raw(asked(locator=locator, offset=offset))
        assert set(answer) == {"data", "size"}
        data, size = answer["data"], answer["size"]
        assert isinstance(data, bytes)
        assert isinstance(size, int)
        return data, size

    async def whole(self, locator: str) -> bytes:
        data, size = await self.piece(locator, 0)
        while len(data) < size:
            more, again = await self.piece(locator, len(data))
            assert (again, more != b"") == (size, True)
            data += more
        return data

    async def refusal(self, payload: AnyMessage, method: str = "Read") -> ErrorCode:
        with pytest.raises(CapabilityError) as caught:
            await self.raw(payload, method)
        return caught.value.error_code


@pytest.fixture
async def reader(hosted: Hosted) -> AsyncIterator[Reader]:
    """Return a provider that may read, and a handler that keeps what it may read."""
    binaries = Binaries(hosted.world.stores.specs.binary)
    registry = Registry()
    registry.declare(HOST_ID, [ARTIFACTS])
    capability = ArtifactReader(binaries)
    registry.register(HOST_ID, capability)
    registry.grant("friend", [ARTIFACTS.id])
    hosted.handler = hosted.again(binaries=binaries)
    yield Reader(registry)
    await capability.close()


async def tamper(hosted: Hosted, binary: bytes) -> None:
    """Change what is stored of every workflow, behind the host's back."""
    await hosted.world.stores.database.write(
        lambda connection: connection.execute(update(workflow_specs).values(workflow=binary.hex()))
    )


async def test_a_deployed_binary_is_read_in_pieces_of_one_mebibyte(hosted: Hosted, reader: Reader) -> None:
    view = await hosted.handler.deploy(deployment(binary=LARGE))
    assert view.binary_url == f"artifact:sha256/{hashlib.sha256(LARGE).hexdigest()}"
    assert await reader.whole(view.binary_url) == LARGE
    assert len((await reader.piece(view.binary_url, 0))[0]) == CHUNK_BYTES == 1 << 20
    assert await reader.piece(view.binary_url, len(LARGE) - 3) == (b"est", len(LARGE))
    assert await reader.piece(view.binary_url, len(LARGE)) == (b"", len(LARGE))


async def test_a_paused_workflow_s_binary_is_read_too_and_a_deleted_one_s_is_gone(
    hosted: Hosted, reader: Reader
) -> None:
    view = await hosted.handler.deploy(deployment(), paused=True)
    assert await reader.whole(view.binary_url) == b"binary"
    await hosted.handler.delete(view.workflow_id)
    assert await reader.refusal(asked(locator=view.binary_url, offset=0)) is ErrorCode.NotFound


async def test_a_large_binary_is_loaded_once_for_all_its_pieces(
    hosted: Hosted,
) -> None:
    loads = 0
    load = hosted.world.stores.specs.binary

    async def counted(url: str) -> bytes | None:
        nonlocal loads
        loads += 1
        return await load(url)

    binaries = Binaries(counted)
    view = await hosted.handler.deploy(deployment(binary=LARGE))
    size, offset = len(LARGE), 0
    while offset < size:
        data, _ = await binaries.read(view.binary_url, offset)
        offset += len(data)
    assert loads == 1
    assert binaries._held == {}
    await binaries.read(view.binary_url, 0)
    assert loads == 2
    binaries.close()


async def test_what_is_held_between_pieces_is_bounded(hosted: Hosted, reader: Reader) -> None:
    binaries = Binaries(hosted.world.stores.specs.binary)
    views = [
        await hosted.handler.deploy(deployment(f"w{number}", binary=LARGE + bytes([number]))) for number in range(5)
    ]
    for view in views:
        await binaries.read(view.binary_url, 0)
    assert list(binaries._held) == [view.binary_url for view in views[-2:]]
    for number, view in enumerate(views):
        assert (await binaries.read(view.binary_url, CHUNK_BYTES * 2))[0] == b"the rest" + bytes([number])
    binaries.close()
    assert binaries._held == {}


async def test_a_read_that_is_not_gone_on_with_is_forgotten(
    hosted: Hosted, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.0)
    binaries = Binaries(hosted.world.stores.specs.binary)
    view = await hosted.handler.deploy(deployment(binary=LARGE))
    await binaries.read(view.binary_url, 0)
    handle = binaries._held[view.binary_url].expiry
    assert handle.when() - handle._loop.time() <= 0.0  # type: ignore[attr-defined] # asyncio has no public clock here
    handle._run()  # what the loop does when it is due
    assert binaries._held == {}


async def test_what_was_changed_in_the_store_shows_at_the_next_read_from_the_beginning(
    hosted: Hosted, reader: Reader
) -> None:
    view = await hosted.handler.deploy(deployment(binary=LARGE))
    await reader.piece(view.binary_url, 0)
    changed = LARGE[:-1] + b"!"
    await tamper(hosted, changed)
    # Nothing here hides it or refuses it: whoever reads compares the digest.
    assert await reader.whole(view.binary_url) == changed
    await tamper(hosted, LARGE + b"longer")
    assert await reader.whole(view.binary_url) == LARGE + b"longer"


async def test_two_who_read_at_once_do_not_get_in_each_other_s_way(hosted: Hosted, reader: Reader) -> None:
    one, two = [
        (await hosted.handler.deploy(deployment(name, binary=LARGE + name.encode()))).binary_url for name in ("a", "b")
    ]
    first = [(await reader.piece(url, 0))[0] for url in (one, two)]
    assert first[0] == first[1]
    assert (await reader.piece(one, 2 * CHUNK_BYTES))[0] == b"the resta"
    assert (await reader.piece(two, 2 * CHUNK_BYTES))[0] == b"the restb"


async def test_a_simulated_binary_is_read_from_before_its_module_starts_until_it_is_deleted(
    hosted: Hosted, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    create = ScriptedModules.create

    async def create_and_read(
        self: ScriptedModules, spec: WorkflowSpec, binary: bytes, binding: Binding | None
    ) -> ScriptedModule:
        seen.append(await reader.whole(spec.binary_url))
        return await create(self, spec, binary, binding)

    monkeypatch.setattr(ScriptedModules, "create", create_and_read)
    view = await hosted.handler.simulate(deployment(binary=LARGE), secrets=NO_SECRETS)
    assert seen == [LARGE]
    assert await reader.whole(view.binary_url) == LARGE
    await hosted.handler.delete(view.workflow_id)
    assert await reader.refusal(asked(locator=view.binary_url, offset=0)) is ErrorCode.NotFound


async def test_a_binary_of_two_simulations_stays_until_both_are_gone(hosted: Hosted, reader: Reader) -> None:
    one = await hosted.handler.simulate(deployment("one"), secrets=NO_SECRETS)
    two = await hosted.handler.simulate(deployment("two"), secrets=NO_SECRETS)
    assert one.binary_url == two.binary_url
    await hosted.handler.delete(one.workflow_id)
    assert await reader.whole(two.binary_url) == b"binary"
    await hosted.handler.delete(two.workflow_id)
    assert await reader.refusal(asked(locator=two.binary_url, offset=0)) is ErrorCode.NotFound


async def test_a_simulation_that_cannot_start_leaves_no_binary(hosted: Hosted, reader: Reader) -> None:
    hosted.modules.refuse[b"binary"] = WorkflowError("broken")
    with pytest.raises(WorkflowError):
        await hosted.handler.simulate(deployment(), secrets=NO_SECRETS)
    locator = artifact_locator(b"binary")
    assert await reader.refusal(asked(locator=locator, offset=0)) is ErrorCode.NotFound
    # A second one of a workflow that is simulated already takes nothing from the first.
    hosted.modules.refuse.clear()
    await hosted.handler.simulate(deployment(), secrets=NO_SECRETS)
    with pytest.raises(ConflictError):
        await hosted.handler.simulate(deployment(), secrets=NO_SECRETS)
    assert await reader.whole(locator) == b"binary"


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "locator",
    [
        f"artifact:sha256/{DIGEST}",
        f"artifact:sha256/{DIGEST[1:]}",
        f"artifact:sha256/{DIGEST}0",
        f"artifact:sha256/{DIGEST}\n",
        f"artifact:sha256/{'A' * 64}",
        f"artifact:sha1/{DIGEST}",
        "",
        "file:///etc/passwd",
        "%",
        "x" * 100_000,
    ],
)
async def test_an_unknown_locator_is_not_found(hosted: Hosted, reader: Reader, locator: str) -> None:
    await hosted.handler.deploy(deployment())
    assert await reader.refusal(asked(locator=locator, offset=0)) is ErrorCode.NotFound
    assert await reader.refusal(asked(locator=locator, offset=1)) is ErrorCode.NotFound


async def test_only_a_locator_of_this_host_is_looked_up(hosted: Hosted, reader: Reader) -> None:
    view = await hosted.handler.deploy(deployment())
    await hosted.world.stores.database.write(
        lambda connection: connection.execute(update(workflow_specs).values(binary_url="https://example.com/binary"))
    )
    for locator in ("https://example.com/binary", view.binary_url):
        assert await reader.refusal(asked(locator=locator, offset=0)) is ErrorCode.NotFound


@pytest.mark.parametrize("offset", [-1, 7, -(2**63), 2**63 - 1])
async def test_an_offset_outside_of_the_binary_is_invalid(hosted: Hosted, reader: Reader, offset: int) -> None:
    view = await hosted.handler.deploy(deployment())
    assert await reader.refusal(asked(locator=view.binary_url, offset=offset)) is ErrorCode.InvalidArgument


@pytest.mark.parametrize(
    "payload",
    [
        asked(),
        asked(locator="artifact:sha256/" + DIGEST),
        asked(offset=0),
        asked(locator=b"artifact", offset=0),
        asked(locator="artifact:sha256/" + DIGEST, offset="0"),
        asked(locator="artifact:sha256/" + DIGEST, offset=0.0),
        asked(locator="artifact:sha256/" + DIGEST, offset=True),
        asked(locator="artifact:sha256/" + DIGEST, offset=None),
        asked(locator="artifact:sha256/" + DIGEST, offset=2**70),
        asked(locator="artifact:sha256/" + DIGEST, offset=0, length=5),
        AnyMessage(),
        AnyMessage(type_url="type.googleapis.com/values.v1.Map", value=b"\xff"),
        AnyMessage(type_url="type.googleapis.com/values.v1.Value"),
    ],
)
async def test_a_request_of_another_form_is_invalid(reader: Reader, payload: AnyMessage) -> None:
    assert await reader.refusal(payload) is ErrorCode.InvalidArgument


@pytest.mark.parametrize("method", ["", "read", "Write"])
async def test_there_is_no_other_method(reader: Reader, method: str) -> None:
    assert await reader.refusal(asked(), method) is ErrorCode.Unimplemented


async def test_nobody_reads_to_whom_it_is_not_granted(hosted: Hosted, reader: Reader) -> None:
    view = await hosted.handler.deploy(deployment())
    with pytest.raises(NotFoundError) as caught:
        await evolve(reader, provider_id="stranger").whole(view.binary_url)
    assert str(caught.value) == str(reader.registry.not_found(ARTIFACTS.id))
    for caller in (WorkflowCaller("ab" * 20, "cd" * 32), ProviderCaller("stranger"), Operator()):
        with pytest.raises(NotFoundError):
            reader.registry.resolve(caller, ARTIFACTS.id)
    listed = reader.registry.resolve(Operator(), ARTIFACTS.id, Right.SEE)
    assert (listed.visibility, listed.provider_id, listed.granted_to) == (
        Visibility.INTERNAL, "innkeeper", ("friend",),
    )  # fmt: skip


def test_no_provider_takes_the_host_s_id_or_its_capability() -> None:
    with pytest.raises(ManifestError, match="the id is the host's own"):
        parse_manifest({"id": HOST_ID, "title": "Me", "sdk": ">=0"}, path="manifest")
    registry = Registry()
    registry.declare(HOST_ID, [ARTIFACTS])
    with pytest.raises(ConflictError, match="the providers innkeeper and other both declare"):
        registry.declare("other", [ARTIFACTS])
    with pytest.raises(ConflictError, match="belongs to the provider innkeeper"):
        registry.register("other", ArtifactReader(Binaries(_nothing)))


async def _nothing(url: str) -> bytes | None:
    del url
    return None

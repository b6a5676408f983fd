"""The registry: who may use what, and that nobody else can tell that it exists."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Iterator

import pytest
from attrs import evolve, field, frozen
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.capabilities.callers import Caller, Operator, ProviderCaller, Right, WorkflowCaller
from innkeeper.capabilities.ids import parse
from innkeeper.capabilities.registry import Listed, Registry
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
    Visibility,
)
from innkeeper_sdk.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ProviderFailedError,
    VerificationError,
)
from innkeeper_sdk.manifest import CapabilityDeclaration, Method

OWNER, WORKFLOW_ID = "ab" * 20, "cd" * 32
WORKFLOW = WorkflowCaller(owner=OWNER, workflow_id=WORKFLOW_ID, execution_id="ef" * 32)
HIDDEN = "hidden:label_x@1.0.0-alpha"
PUBLIC, INTERNAL = Visibility.PUBLIC, Visibility.INTERNAL


class Answers(Capability):
    """A capability that remembers its calls and answers with its name."""

    def __init__(self, capability_id: str, *, type_: CapabilityType = CapabilityType.ACTION) -> None:
        self._info = CapabilityInfo(id=capability_id, type=type_, description="of the object")
        self.requests: list[CapabilityRequest] = []

    @property
    def info(self) -> CapabilityInfo:
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.requests.append(request)
        return CapabilityResponse(payload=AnyMessage(type_url=self._info.id))


def declaration(capability_id: str, visibility: Visibility = INTERNAL) -> CapabilityDeclaration:
    return CapabilityDeclaration(
        id=capability_id, type=CapabilityType.ACTION, visibility=visibility, methods={"Do": Method(idempotent=True)}
    )


def add(registry: Registry, provider_id: str, *declared: CapabilityDeclaration) -> dict[str, Answers]:
    """Declare and register capabilities of one provider."""
    registry.declare(provider_id, declared)
    capabilities = {one.id: Answers(one.id) for one in declared}
    for capability in capabilities.values():
        registry.register(provider_id, capability)
    return capabilities


def request(capability_id: str, *, deadline: float | None = None) -> CapabilityRequest:
    return CapabilityRequest(
        metadata=RequestMetadata(workflow_id=WORKFLOW_ID, workflow_owner=OWNER),
        capability_id=capability_id,
        method="Do",
        payload=AnyMessage(),
        deadline=deadline,
    )


def may(registry: Registry, caller: Caller, capability_id: str, right: Right = Right.CALL) -> bool:
    """Return whether a caller gets a capability, through ``resolve``."""
    try:
        if right is Right.CALL:
            registry.resolve(caller, capability_id)
        else:
            registry.resolve(caller, capability_id, Right.SEE)
    except NotFoundError:
        return False
    return True


@pytest.fixture
def registry() -> Registry:
    """Return a registry with a provider of something internal and something public, and two others."""
    registry = Registry()
    add(registry, "owner", declaration(HIDDEN), declaration("open@1.0.0", PUBLIC))
    add(registry, "friend", declaration("door@1.0.0", PUBLIC))
    registry.grant("friend", [HIDDEN])
    return registry


# Who may do what.

OWNED, FRIEND, STRANGER = ProviderCaller("owner"), ProviderCaller("friend"), ProviderCaller("stranger")


@pytest.mark.parametrize(
    ("caller", "capability_id", "sees", "calls"),
    [
        (WORKFLOW, "open@1.0.0", True, True),
        (WORKFLOW, HIDDEN, False, False),
        (OWNED, HIDDEN, True, True),
        (OWNED, "open@1.0.0", True, True),
        (FRIEND, HIDDEN, True, True),
        (STRANGER, HIDDEN, False, False),
        (STRANGER, "open@1.0.0", True, True),
        (Operator(), HIDDEN, True, False),
        (Operator(), "open@1.0.0", True, True),
    ],
)
def test_who_sees_and_who_calls(
    registry: Registry, caller: Caller, capability_id: str, sees: bool, calls: bool
) -> None:
    assert may(registry, caller, capability_id, Right.SEE) is sees
    assert may(registry, caller, capability_id, Right.CALL) is calls
    assert (capability_id in [listed.info.id for listed in registry.list(caller)]) is sees


@pytest.mark.parametrize("nobody", [None, object(), "operator", ProviderCaller, ("owner",), HIDDEN])
def test_an_unknown_caller_may_nothing(registry: Registry, nobody: object) -> None:
    for right in Right:
        for capability_id in ("open@1.0.0", HIDDEN):
            with pytest.raises(NotFoundError):
                registry.resolve(nobody, capability_id, right)  # type: ignore[call-overload] # what types forbid
    assert registry.list(nobody) == []  # type: ignore[arg-type] # what types forbid


def test_an_unknown_right_is_none(registry: Registry) -> None:
    for caller in (WORKFLOW, OWNED, Operator()):
        with pytest.raises(NotFoundError):
            registry.resolve(caller, "open@1.0.0", "see")  # type: ignore[call-overload] # what types forbid


def test_to_see_gives_no_capability_out(registry: Registry) -> None:
    seen = registry.resolve(Operator(), HIDDEN, Right.SEE)
    assert type(seen) is Listed
    assert seen == Listed(
        info=registry.resolve(OWNED, HIDDEN).info,
        provider_id="owner",
        visibility=INTERNAL,
        ready=True,
        granted_to=("friend",),
        call_limits={},
    )
    assert not any(isinstance(getattr(seen, name), Capability) for name in dir(seen))
    assert all(type(listed) is Listed for listed in registry.list(OWNED))


def test_a_grant_is_for_the_exact_id_alone(registry: Registry) -> None:
    add(registry, "other", declaration("hidden:label_x@1.0.1"), declaration("hidden:label_x@1.0.0-beta"))
    assert [listed.info.id for listed in registry.list(FRIEND) if listed.visibility is INTERNAL] == [HIDDEN]
    assert not may(registry, FRIEND, "hidden:label_x@1.0.1")


def test_a_grant_does_not_make_others_see(registry: Registry) -> None:
    registry.grant("friend", [HIDDEN])
    assert not may(registry, WORKFLOW, HIDDEN)
    assert not may(registry, STRANGER, HIDDEN)


def test_grants_are_replaced_and_can_come_first(registry: Registry) -> None:
    registry.grant("friend", ["later@1.0.0"])
    assert not may(registry, FRIEND, HIDDEN)
    add(registry, "late", declaration("later@1.0.0"))
    assert may(registry, FRIEND, "later@1.0.0")
    registry.grant("friend", [])
    assert not may(registry, FRIEND, "later@1.0.0")


@pytest.mark.parametrize("bad", ["*", "hidden", "hidden@1", "hidden:label_x@*", ""])
def test_a_grant_that_is_no_id_is_refused(registry: Registry, bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.grant("friend", [HIDDEN, bad])
    assert caught.value.provider == "friend"


def test_a_grant_to_oneself_loosens_nothing_for_workflows(registry: Registry) -> None:
    registry.grant("owner", [HIDDEN])
    assert not may(registry, WORKFLOW, HIDDEN)


# One not-found error.

UNKNOWN = [
    "nothing@1.0.0",
    HIDDEN,
    "hidden:label_x@1.0.0-0",
    "hidden:label_x@1.0.0-alpha.0",
    "hidden:label_x@1.0.0-alpha+build",
    "hidden:label_x@0.9.0",
    "hidden:label_x@1.0.0",
    "hidden@1.0.0-alpha",
    "hidden:label_y@1.0.0-alpha",
    "HIDDEN:label_x@1.0.0-alpha",
    "hidden:label_x@1.0.0-alpha\n",
    "hidden:label_x@1.0.0-alpha\0",
    "hidden",
    "",
    "x" * 200 + "@1.0.0",
    "оpen@1.0.0",  # noqa: RUF001 - a Cyrillic letter is the point
]


def refusal(registry: Registry, caller: Caller, capability_id: str) -> NotFoundError:
    with pytest.raises(NotFoundError) as caught:
        registry.resolve(caller, capability_id)
    return caught.value


@pytest.mark.parametrize("asked", UNKNOWN)
def test_what_is_hidden_is_refused_just_like_what_does_not_exist(registry: Registry, asked: str) -> None:
    error, reference = refusal(registry, WORKFLOW, asked), refusal(registry, WORKFLOW, "nothing@1.0.0")
    assert str(error) == str(reference).replace("nothing@1.0.0", asked)
    assert error.to_dict() == {k: v.replace("nothing@1.0.0", asked) for k, v in reference.to_dict().items()}
    assert (type(error), error.code, error.exit_code) == (NotFoundError, "not-found", reference.exit_code)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert str(error) == str(Registry().not_found(asked))


@pytest.mark.parametrize("asked", UNKNOWN)
async def test_every_path_refuses_alike(registry: Registry, asked: str) -> None:
    expected = str(registry.not_found(asked))
    stranger = registry.bound("stranger")
    for attempt in (registry.call(WORKFLOW, request(asked)), stranger.execute(request(asked))):
        with pytest.raises(NotFoundError) as caught:
            await attempt
        assert str(caught.value) == expected
    assert registry.suggestions(WORKFLOW, asked) == ()
    assert registry.suggestions(STRANGER, asked) == ()
    assert HIDDEN not in [info.id for info in await stranger.list()]


def test_an_endless_id_is_not_repeated_in_full(registry: Registry) -> None:
    assert len(str(refusal(registry, WORKFLOW, "x" * 10_000_000))) < 1100


@pytest.mark.parametrize("asked", [None, 7, b"open@1.0.0"])
def test_an_id_that_is_no_text_is_not_found(registry: Registry, asked: object) -> None:
    with pytest.raises(NotFoundError):
        registry.resolve(WORKFLOW, asked)  # type: ignore[call-overload] # what types forbid


# Versions are resolved among what the caller may use, and the result is authorised once more.


@pytest.mark.parametrize("caller", [WORKFLOW, STRANGER])
def test_a_fault_in_the_version_rules_opens_nothing(
    registry: Registry, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper.capabilities.registry.choose", lambda asked, candidates: parse(HIDDEN))
    assert str(refusal(registry, caller, HIDDEN)) == str(registry.not_found(HIDDEN))
    assert may(registry, FRIEND, HIDDEN)


def test_a_hidden_version_does_not_shadow_a_public_one(registry: Registry) -> None:
    add(registry, "versions", declaration("v@1.0.0", PUBLIC), declaration("v@1.1.0"), declaration("v@1.2.0", PUBLIC))
    assert registry.resolve(WORKFLOW, "v@1.1.0").info.id == "v@1.2.0"
    assert registry.resolve(WORKFLOW, "v@1.0.1").info.id == "v@1.2.0"
    assert registry.resolve(ProviderCaller("versions"), "v@1.0.1").info.id == "v@1.1.0"
    assert registry.resolve(WORKFLOW, "v@1.0.0").info.id == "v@1.0.0"


async def test_the_capability_is_told_the_resolved_id(registry: Registry) -> None:
    capabilities = add(registry, "versions", declaration("v@1.2.0", PUBLIC))
    answer = await registry.call(WORKFLOW, request("v@1.0.0"))
    assert answer.payload.type_url == "v@1.2.0"
    assert [seen.capability_id for seen in capabilities["v@1.2.0"].requests] == ["v@1.2.0"]


NAMES = st.sampled_from(["a", "b", "a:l_1", "a:l_2", "hidden"])
VERSIONS = st.builds(
    lambda major, minor, patch, pre, build: f"{major}.{minor}.{patch}{pre}{build}",
    st.integers(0, 1),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(["", "-0", "-alpha", "-alpha.0", "-alpha.1", "-zzz"]),
    st.sampled_from(["", "+b", "+c"]),
)
VALID = st.builds("{}@{}".format, NAMES, VERSIONS)
ASKED = (
    VALID
    | st.text()
    | st.builds("{}{}".format, VALID, st.sampled_from(["\n", "\0", " ", "\u200b", "-", "+", "@1.0.0", "x" * 300]))
    | st.builds("{}{}".format, st.sampled_from(["\n", "\0", " ", ":", "\ufeff"]), VALID)
    | VALID.map(str.upper)
    | VALID.map(lambda text: text.replace("1", "１"))  # noqa: RUF001 - a full-width digit is the point
)


@frozen
class World:
    """A registry with many capabilities, some public."""

    visibilities: dict[str, Visibility]
    asked: list[str]
    registry: Registry = field(factory=Registry)

    def __attrs_post_init__(self) -> None:
        add(self.registry, "owner", *(declaration(text, how) for text, how in self.visibilities.items()))


WORLDS = st.builds(
    World, visibilities=st.dictionaries(VALID, st.sampled_from(list(Visibility)), max_size=12), asked=st.lists(ASKED)
)


@settings(deadline=None)
@given(WORLDS, st.data())
def test_no_id_leads_a_workflow_to_something_internal(world: World, data: st.DataObject) -> None:
    known = data.draw(st.lists(st.sampled_from(sorted(world.visibilities)))) if world.visibilities else []
    for caller in (WORKFLOW, STRANGER):
        for asked in [*world.asked, *known]:
            try:
                resolved = world.registry.resolve(caller, asked)
            except NotFoundError as error:
                assert str(error) == str(Registry().not_found(asked))  # noqa: PT017 - either outcome is fine
            else:
                assert resolved.visibility is PUBLIC
                assert world.visibilities[resolved.info.id] is PUBLIC
        assert all(listed.visibility is PUBLIC for listed in world.registry.list(caller))


@settings(deadline=None)
@given(WORLDS)
def test_internal_capabilities_change_nothing_of_what_a_workflow_finds(world: World) -> None:
    public = {text: how for text, how in world.visibilities.items() if how is PUBLIC}
    without = World(visibilities=public, asked=[])
    for asked in [*world.asked, *world.visibilities]:
        with_, without_ = (_outcome(one.registry, asked) for one in (world, without))
        assert with_ == without_


def _outcome(registry: Registry, asked: str) -> str:
    try:
        return registry.resolve(WORKFLOW, asked).info.id
    except NotFoundError as error:
        return f"error: {error}"


# Ids belong to providers.


def test_two_providers_that_declare_one_id_are_both_named(registry: Registry) -> None:
    with pytest.raises(ConflictError, match=r"owner.*stranger.*open@1\.0\.0"):
        registry.declare("stranger", [declaration("other@1.0.0"), declaration("open@1.0.0", PUBLIC)])
    assert not may(registry, WORKFLOW, "other@1.0.0"), "nothing of a refused declaration stands"
    with pytest.raises(ProviderFailedError):
        registry.register("stranger", Answers("other@1.0.0"))


@pytest.mark.parametrize("declared", [["x@1.0.0", "x@1.0.0"], ["x"], [""], ["x" * 200 + "@1.0.0"]])
def test_a_faulty_declaration_is_refused_whole(registry: Registry, declared: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.declare("new", [declaration("fine@1.0.0"), *map(declaration, declared)])
    assert caught.value.provider == "new"
    with pytest.raises(ProviderFailedError):
        registry.register("new", Answers("fine@1.0.0"))


def test_a_capability_that_was_not_declared_is_refused(registry: Registry) -> None:
    with pytest.raises(ProviderFailedError, match="not declared") as caught:
        registry.register("friend", Answers("squatter@1.0.0"))
    assert caught.value.provider == "friend"
    assert not may(registry, Operator(), "squatter@1.0.0", Right.SEE)


def test_a_provider_cannot_register_or_unregister_another_ones_id(registry: Registry) -> None:
    registry.unregister("owner", "open@1.0.0")
    with pytest.raises(ConflictError, match=r"open@1\.0\.0.*owner.*friend"):
        registry.register("friend", Answers("open@1.0.0"))
    registry.register("owner", Answers("open@1.0.0"))
    with pytest.raises(ConflictError, match=r"open@1\.0\.0.*owner.*friend"):
        registry.unregister("friend", "open@1.0.0")
    assert may(registry, WORKFLOW, "open@1.0.0")


def test_an_id_is_registered_once(registry: Registry) -> None:
    with pytest.raises(ConflictError, match="registered already"):
        registry.register("owner", Answers("open@1.0.0"))


def test_a_registered_id_cannot_be_declared_anew(registry: Registry) -> None:
    with pytest.raises(ConflictError, match="unregister it first"):
        registry.declare("owner", [declaration(HIDDEN, PUBLIC)])
    assert not may(registry, WORKFLOW, HIDDEN)


def test_what_a_capability_says_of_itself_binds_nothing(registry: Registry) -> None:
    info = registry.resolve(WORKFLOW, "open@1.0.0").info
    assert info.methods["Do"].idempotent
    assert info.description == "of the object"


def test_the_limits_that_count_calls_are_those_of_the_declaration(registry: Registry) -> None:
    limited = evolve(
        declaration("limited@1.0.0", PUBLIC),
        methods={"Do": Method(calls="A.CallLimit"), "Redo": Method(calls="A.CallLimit"), "Undo": Method()},
    )
    add(registry, "limiting", limited)
    assert registry.resolve(WORKFLOW, "limited@1.0.0").call_limits == {"Do": "A.CallLimit", "Redo": "A.CallLimit"}
    registry.declare("bare", ["bare@1.0.0"])
    registry.register("bare", Answers("bare@1.0.0"), visibility=PUBLIC)
    assert registry.resolve(WORKFLOW, "bare@1.0.0").call_limits == {}


class Shifty(Answers):
    """A capability whose info changes with every look."""

    def __init__(self, *ids: str) -> None:
        super().__init__(ids[0])
        self._ids: Iterator[str] = iter([*ids, *["open@1.0.0"] * 5])

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id=next(self._ids), type=CapabilityType.ACTION)


async def test_info_is_read_once(registry: Registry) -> None:
    registry.declare("shifty", [declaration("first@1.0.0", PUBLIC), declaration("second@1.0.0")])
    registry.register("shifty", Shifty("first@1.0.0", "second@1.0.0"))
    assert registry.resolve(WORKFLOW, "first@1.0.0").capability.info.id == "first@1.0.0"
    assert [listed.info.id for listed in registry.list(WORKFLOW)] == ["door@1.0.0", "first@1.0.0", "open@1.0.0"]
    assert registry.resolve(ProviderCaller("shifty"), "first@1.0.0").visibility is PUBLIC


# Visibility may only be tightened.


def test_plugins_yaml_tightens_one_or_all(registry: Registry) -> None:
    both = [declaration("p@1.0.0", PUBLIC), declaration("q@1.0.0", PUBLIC), declaration("i@1.0.0")]
    registry.declare("new", both, visibility={"p@1.0.0": INTERNAL})
    for one in both:
        registry.register("new", Answers(one.id))
    assert [may(registry, WORKFLOW, one.id) for one in both] == [False, True, False]
    registry.withdraw("new")
    registry.declare("new", both, visibility={"*": INTERNAL, "q@1.0.0": PUBLIC})
    for one in both:
        registry.register("new", Answers(one.id))
    assert [may(registry, WORKFLOW, one.id) for one in both] == [False, True, False]
    registry.withdraw("new")
    registry.declare("new", both, visibility={"*": PUBLIC})
    assert registry.resolve(ProviderCaller("new"), "i@1.0.0", Right.SEE).visibility is INTERNAL


def test_plugins_yaml_cannot_loosen(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"i@1\.0\.0 may only be tightened"):
        registry.declare("new", [declaration("i@1.0.0")], visibility={"i@1.0.0": PUBLIC})
    with pytest.raises(ConfigError, match=r"did you mean i@1\.0\.0"):
        registry.declare("new", [declaration("i@1.0.0")], visibility={"i@1.0": INTERNAL})


def test_registration_cannot_loosen(registry: Registry) -> None:
    registry.declare("new", [declaration("i@1.0.0")])
    with pytest.raises(ConflictError, match="may only be tightened"):
        registry.register("new", Answers("i@1.0.0"), visibility=PUBLIC)
    registry.declare("new", [declaration("i@1.0.0", PUBLIC)])
    registry.register("new", Answers("i@1.0.0"), visibility=INTERNAL)
    assert not may(registry, WORKFLOW, "i@1.0.0")


def test_a_bare_id_is_internal_unless_the_host_says_otherwise(registry: Registry) -> None:
    registry.declare("bare", ["b@1.0.0", "c@1.0.0"])
    assert not may(registry, Operator(), "b@1.0.0", Right.SEE), "nothing is known of it yet"
    registry.unregister("bare", "b@1.0.0")
    registry.register("bare", Answers("b@1.0.0", type_=CapabilityType.TARGET))
    registry.register("bare", Answers("c@1.0.0"), visibility=PUBLIC)
    assert registry.resolve(Operator(), "b@1.0.0", Right.SEE).info.type is CapabilityType.TARGET
    assert [may(registry, WORKFLOW, text) for text in ("b@1.0.0", "c@1.0.0")] == [False, True]
    registry.unregister("bare", "c@1.0.0")
    registry.register("bare", Answers("c@1.0.0"))
    assert not may(registry, WORKFLOW, "c@1.0.0"), "what was said of an earlier registration is gone"


# Not ready.


def test_what_is_declared_and_not_ready_is_unavailable_to_those_who_may_use_it(registry: Registry) -> None:
    registry.declare("slow", [declaration("soon@1.0.0", PUBLIC), declaration("veiled@1.0.0")])
    with pytest.raises(CapabilityError) as caught:
        registry.resolve(WORKFLOW, "soon@1.0.0")
    assert caught.value.error_code is ErrorCode.Unavailable
    assert "slow" not in str(caught.value)
    assert str(refusal(registry, WORKFLOW, "veiled@1.0.0")) == str(registry.not_found("veiled@1.0.0"))
    with pytest.raises(CapabilityError):
        registry.resolve(ProviderCaller("slow"), "veiled@1.0.0")
    seen = registry.resolve(Operator(), "veiled@1.0.0", Right.SEE)
    assert (seen.ready, seen.info.type) == (False, CapabilityType.ACTION)


def test_an_unready_version_is_not_replaced_by_another(registry: Registry) -> None:
    add(registry, "versions", declaration("v@1.1.0", PUBLIC), declaration("v@1.2.0", PUBLIC))
    registry.unregister("versions", "v@1.1.0")
    with pytest.raises(CapabilityError) as caught:
        registry.resolve(WORKFLOW, "v@1.0.0")
    assert caught.value.error_code is ErrorCode.Unavailable


async def test_a_provider_registers_again_after_a_crash(registry: Registry) -> None:
    before = registry.resolve(WORKFLOW, "open@1.0.0")
    registry.unregister("owner", "open@1.0.0")
    registry.unregister("owner", "open@1.0.0")
    with pytest.raises(CapabilityError) as caught:
        await before.capability.execute(request("open@1.0.0"))
    assert caught.value.error_code is ErrorCode.Unavailable
    registry.register("owner", Answers("open@1.0.0"))
    assert (await registry.call(WORKFLOW, request("open@1.0.0"))).payload.type_url == "open@1.0.0"
    with pytest.raises(CapabilityError):
        await before.capability.execute(request("open@1.0.0"))


def test_a_withdrawn_provider_leaves_nothing(registry: Registry) -> None:
    registry.withdraw("owner")
    registry.withdraw("owner")
    assert [listed.info.id for listed in registry.list(Operator())] == ["door@1.0.0"]
    assert str(refusal(registry, WORKFLOW, "open@1.0.0")) == str(registry.not_found("open@1.0.0"))
    add(registry, "stranger", declaration("open@1.0.0", PUBLIC))
    assert registry.resolve(WORKFLOW, "open@1.0.0").provider_id == "stranger"
    registry.withdraw("friend")
    add(registry, "owner", declaration(HIDDEN))
    assert not may(registry, FRIEND, HIDDEN), "its grants went with it"


# Calling.


async def test_metadata_of_another_workflow_is_refused(registry: Registry) -> None:
    ours = request("open@1.0.0")
    for other in (evolve(ours.metadata, workflow_owner="00" * 20), evolve(ours.metadata, workflow_id="00" * 32)):
        with pytest.raises(VerificationError):
            await registry.call(WORKFLOW, evolve(ours, metadata=other))
        await registry.bound("friend").execute(evolve(ours, metadata=other))


async def test_the_operator_calls_what_is_public_only(registry: Registry) -> None:
    await registry.call(Operator(), request("open@1.0.0"))
    with pytest.raises(NotFoundError):
        await registry.call(Operator(), request(HIDDEN))


class Waits(Answers):
    """A capability that never answers, and notes that its caller has gone."""

    def __init__(self, capability_id: str) -> None:
        super().__init__(capability_id)
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError("unreachable")


@pytest.fixture
def waits(registry: Registry) -> Waits:
    capability = Waits("waits@1.0.0")
    registry.declare("waits", [declaration("waits@1.0.0", PUBLIC)])
    registry.register("waits", capability)
    return capability


async def test_a_call_ends_at_its_deadline(registry: Registry, waits: Waits) -> None:
    with pytest.raises(CapabilityError) as caught:
        await registry.call(WORKFLOW, request("waits@1.0.0", deadline=time.monotonic() + 0.02))
    assert caught.value.error_code is ErrorCode.DeadlineExceeded
    assert waits.cancelled.is_set()
    with pytest.raises(CapabilityError) as caught:
        await registry.call(WORKFLOW, request("waits@1.0.0", deadline=time.monotonic() - 1))
    assert caught.value.error_code is ErrorCode.DeadlineExceeded
    in_time = await registry.call(WORKFLOW, request("open@1.0.0", deadline=time.monotonic() + 60))
    assert in_time.payload.type_url == "open@1.0.0"


async def test_a_cancelled_caller_cancels_the_capability(registry: Registry, waits: Waits) -> None:
    task = asyncio.create_task(registry.call(WORKFLOW, request("waits@1.0.0")))
    await waits.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits.cancelled.is_set()


# The registry as a provider has it.


async def test_a_bound_registry_acts_as_its_provider(registry: Registry) -> None:
    friend, stranger = registry.bound("friend"), registry.bound("stranger")
    assert (await friend.execute(request(HIDDEN))).payload.type_url == HIDDEN
    with pytest.raises(NotFoundError):
        await stranger.execute(request(HIDDEN))
    assert [info.id for info in await friend.list()] == ["door@1.0.0", HIDDEN, "open@1.0.0"]
    assert [info.id for info in await stranger.list()] == ["door@1.0.0", "open@1.0.0"]
    assert "friend" in repr(friend)


def test_a_provider_learns_whether_what_it_may_call_is_ready(registry: Registry) -> None:
    friend = registry.bound("friend")
    assert [friend.ready(asked) for asked in (HIDDEN, "open@1.0.0", "door@1.0.0")] == [True, True, True]
    registry.unregister("owner", HIDDEN)
    assert not friend.ready(HIDDEN)
    registry.register("owner", Answers(HIDDEN))
    assert friend.ready(HIDDEN)


@pytest.mark.parametrize("asked", UNKNOWN)
async def test_what_a_provider_may_not_call_is_never_ready_and_never_waited_for(registry: Registry, asked: str) -> None:
    stranger = registry.bound("stranger")
    assert not stranger.ready(asked)
    with pytest.raises(NotFoundError) as caught:
        await stranger.wait_ready(asked)
    assert str(caught.value) == str(registry.not_found(asked))


async def test_a_provider_waits_until_what_it_may_call_is_there(registry: Registry) -> None:
    friend = registry.bound("friend")
    await friend.wait_ready(HIDDEN)
    registry.unregister("owner", HIDDEN)
    waiting = asyncio.create_task(friend.wait_ready(HIDDEN))
    await asyncio.sleep(0)
    # A change that does not help wakes it in vain.
    registry.unregister("friend", "door@1.0.0")
    await asyncio.sleep(0)
    assert not waiting.done()
    registry.register("owner", Answers(HIDDEN))
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.parametrize("take", ["grant", "withdraw"])
async def test_who_loses_a_right_waits_no_longer(registry: Registry, take: str) -> None:
    registry.unregister("owner", HIDDEN)
    waiting = asyncio.create_task(registry.bound("friend").wait_ready(HIDDEN))
    await asyncio.sleep(0)
    if take == "grant":
        registry.grant("friend", [])
    else:
        registry.withdraw("owner")
    async with asyncio.timeout(5):
        with pytest.raises(NotFoundError):
            await waiting


def test_a_bound_registry_gives_nothing_of_the_host_away(registry: Registry) -> None:
    bound = registry.bound("stranger")
    values = [getattr(bound, name) for name in dir(bound) if not name.startswith("__")]
    assert {value.__name__ for value in values} == {"execute", "list", "ready", "wait_ready"}
    assert not any(isinstance(getattr(bound, name), Registry | ProviderCaller) for name in dir(bound))
    assert not hasattr(bound, "__dict__")


@pytest.mark.parametrize(
    "name", ["execute", "list", "ready", "wait_ready", "caller", "provider_id", "_caller", "registry"]
)
def test_a_bound_registry_cannot_be_changed(registry: Registry, name: str) -> None:
    bound = registry.bound("stranger")
    with pytest.raises(AttributeError):
        setattr(bound, name, ProviderCaller("owner"))
    with pytest.raises(AttributeError):
        delattr(bound, name)


def test_a_bound_registry_cannot_become_another_ones(registry: Registry) -> None:
    bound = registry.bound("stranger")
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(bound)


# Suggestions.


def test_only_the_operator_is_given_suggestions(registry: Registry) -> None:
    assert registry.suggestions(Operator(), "hidden:label_x@1.0.0") == (HIDDEN,)
    assert registry.suggestions(Operator(), "opn@1.0.0")[0] == "open@1.0.0"
    assert registry.suggestions(Operator(), "x" * 1_000_000) == ()
    assert registry.suggestions(OWNED, "opn@1.0.0") == ()

"""Restrictions of a pre-hook, enforced by the host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.modules.restrictions import PayloadSecrets, restricted
from innkeeper_sdk.capability import CapabilityError
from innkeeper_sdk.errors import WorkflowError
from innkeeper_sdk.module import ExecutionHelper, UserMetric
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CAPABILITY_RESTRICTION_TYPE_CLOSED as CLOSED,
)
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CAPABILITY_RESTRICTION_TYPE_OPEN as OPEN,
)
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    CapabilityRestriction,
    CapabilityRestrictions,
    CapabilityRestrictionType,
    GetSecretsRequest,
    MethodRestriction,
    Restrictions,
    Secret,
    SecretError,
    SecretPrefixRestriction,
    SecretRequest,
    SecretResponse,
    SecretRestriction,
    SecretsRestritions,
)

UNLIMITED = 2**32 - 1
WITH_SECRETS = "type.googleapis.com/x.WithSecrets"


class Helper:
    """An execution helper that remembers what reached it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.secrets: list[GetSecretsRequest] = []
        self.lines: list[str] = []
        self.metrics: list[UserMetric] = []
        self.answers = 1
        self.reserved = 0

    @property
    def execution_id(self) -> str:
        return "ef" * 32

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        await asyncio.sleep(0)
        self.calls.append(f"{request.id} {request.method}")
        return CapabilityResponse(payload=AnyMessage(value=b"done"))

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        self.secrets.append(request)
        return [SecretResponse(secret=Secret(id=one.id, value="v")) for one in request.requests] * self.answers

    @asynccontextmanager
    async def reserve_secrets(self, request: GetSecretsRequest) -> AsyncIterator[Sequence[SecretError | None]]:
        self.secrets.append(request)
        self.reserved += 1
        yield [None for _ in request.requests] * self.answers
        self.reserved -= 1

    async def node_time(self) -> int:
        return 1

    async def don_time(self) -> int:
        return 2

    def emit_log(self, message: str) -> None:
        self.lines.append(message)

    def emit_metric(self, metric: UserMetric) -> None:
        self.metrics.append(metric)


def calls(total: int, *limits: tuple[str, str, int], how: CapabilityRestrictionType.ValueType = CLOSED) -> Restrictions:
    entries = [
        CapabilityRestriction(method=MethodRestriction(id=id_, method=method, max_calls=most))
        for id_, method, most in limits
    ]
    return Restrictions(capabilities=CapabilityRestrictions(restrictions=entries, max_total_calls=total, type=how))


def secrets(total: int, *rules: tuple[str, str] | tuple[str, str, int]) -> Restrictions:
    """Return restrictions of secrets: exact ones by name and namespace, prefixes with a number too."""
    entries = [
        SecretRestriction(exact_secret=Secret(id=rule[0], namespace=rule[1]))
        if len(rule) == 2
        else SecretRestriction(
            prefixed_secret=SecretPrefixRestriction(prefix=rule[0], namespace=rule[1], max_secrets=rule[2])
        )
        for rule in rules
    ]
    return Restrictions(secrets=SecretsRestritions(restrictions=entries, max_secrets=total))


def both(one: Restrictions, two: Restrictions) -> Restrictions:
    merged = Restrictions()
    merged.MergeFrom(one)
    merged.MergeFrom(two)
    return merged


def exactly(capability_id: str) -> str:
    return capability_id


def listed(payload: AnyMessage) -> list[SecretRequest]:
    """Find the secrets that a payload asks for: one a line, in the namespace ``main``."""
    return [SecretRequest(id=line, namespace="main") for line in payload.value.decode("utf-8").splitlines()]


def wrap(
    restrictions: Restrictions | None,
    helper: Helper,
    *,
    resolve: Callable[[str], str] = exactly,
    find: PayloadSecrets = listed,
) -> ExecutionHelper:
    return restricted(helper, restrictions, resolve=resolve, payload_secrets={"x.WithSecrets": find})


async def call(helper: ExecutionHelper, capability_id: str, method: str, payload: AnyMessage | None = None) -> bool:
    """Return whether a call goes through."""
    request = CapabilityRequest(id=capability_id, method=method, payload=payload, callback_id=7)
    try:
        await helper.call_capability(request)
    except CapabilityError as error:
        text = f"Public:User:LimitExceeded:call denied by user pre-hook restrictions: {capability_id} {method}"
        assert error.serialize() == text  # noqa: PT017 - either outcome is fine
        return False
    return True


async def results(helper: ExecutionHelper, *asked: tuple[str, str]) -> list[bool]:
    return [await call(helper, *one) for one in asked]


A, B = ("a@1.0.0", "Do"), ("b@1.0.0", "Do")


def test_no_restrictions_change_nothing() -> None:
    helper = Helper()
    assert wrap(None, helper) is helper


async def test_what_restrictions_do_not_speak_of_is_free() -> None:
    helper = Helper()
    free = wrap(Restrictions(), helper)
    assert await results(free, A, B, A) == [True, True, True]
    await free.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="s")]))
    assert len(helper.secrets) == 1
    only_calls = wrap(calls(1, (*A, 1)), helper)
    assert (await only_calls.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="s")])))[0].HasField("secret")
    only_secrets = wrap(secrets(0), helper)
    assert await results(only_secrets, A, B) == [True, True]


async def test_the_rest_of_the_helper_is_untouched() -> None:
    helper = Helper()
    one = wrap(calls(0), helper)
    metric = UserMetric("m", 1.0, "counter", {})
    one.emit_log("line")
    one.emit_metric(metric)
    assert (one.execution_id, await one.node_time(), await one.don_time()) == ("ef" * 32, 1, 2)
    assert (helper.lines, helper.metrics) == (["line"], [metric])


# Capabilities.


@pytest.mark.parametrize(
    ("restrictions", "asked", "expected"),
    [
        (calls(0), [A], [False]),
        (calls(0, how=OPEN), [A], [False]),
        (calls(0, (*A, 5), how=OPEN), [A], [False]),
        (calls(2, (*A, 5)), [A, A, A], [True, True, False]),
        (calls(9, (*A, 1)), [A, A], [True, False]),
        (calls(9, (*A, 0), how=OPEN), [A, B], [False, True]),
        (calls(9, (*A, 1)), [B, A], [False, True]),
        (calls(1, (*A, 1)), [B, B, A], [False, False, True]),
        (calls(2, how=OPEN), [A, B, A], [True, True, False]),
        (calls(9, (*A, 3), (*A, 1), (*A, 2)), [A, A], [True, False]),
        (calls(UNLIMITED, (*A, UNLIMITED)), [A] * 20, [True] * 20),
        (calls(9, ("a@1.0.0", "Other", 5)), [A], [False]),
        (calls(9, how=CapabilityRestrictionType.ValueType(2)), [A], [False]),  # a type that nobody knows is closed
    ],
)
async def test_calls_are_counted(
    restrictions: Restrictions, asked: list[tuple[str, str]], expected: list[bool]
) -> None:
    helper = Helper()
    assert await results(wrap(restrictions, helper), *asked) == expected
    assert helper.calls == [f"{id_} {method}" for (id_, method), yes in zip(asked, expected, strict=True) if yes]


async def test_another_spelling_of_an_id_is_no_way_around_its_limit() -> None:
    def resolve(capability_id: str) -> str:
        return "a@1.2.0" if capability_id.startswith("a@1.") else capability_id

    open_ = wrap(calls(9, (*A, 1), how=OPEN), Helper(), resolve=resolve)
    assert await results(open_, ("a@1.1.0", "Do"), A, ("a@1.0.0-0", "Do"), B) == [True, False, False, True]
    closed = wrap(calls(9, ("a@1.2.0", "Do", 1), ("a@1.0.0", "Do", 5)), Helper(), resolve=resolve)
    assert await results(closed, A, A) == [True, False]


async def test_what_an_id_stands_for_is_asked_at_each_call() -> None:
    known: dict[str, str] = {}
    one = wrap(calls(9, (*A, 1), how=OPEN), Helper(), resolve=lambda text: known.get(text, text))
    assert await results(one, ("a@1.1.0", "Do")) == [True]
    known.update({"a@1.0.0": "a@1.2.0", "a@1.1.0": "a@1.2.0"})
    assert await results(one, ("a@1.1.0", "Do"), ("a@1.1.0", "Do")) == [True, False]


async def test_concurrent_calls_do_not_share_what_is_left() -> None:
    helper = Helper()
    one = wrap(calls(3, (*A, UNLIMITED)), helper)
    outcomes = await asyncio.gather(*(call(one, *A) for _ in range(10)))
    assert sorted(outcomes) == [False] * 7 + [True] * 3
    assert len(helper.calls) == 3


# Secrets.


async def get(helper: ExecutionHelper, *asked: tuple[str, str]) -> list[bool]:
    """Return which secrets are given; check the error of the others."""
    request = GetSecretsRequest(
        requests=[SecretRequest(id=name, namespace=namespace) for name, namespace in asked], callback_id=-3
    )
    answers = await helper.get_secrets(request)
    assert len(answers) == len(asked)
    for (name, namespace), answer in zip(asked, answers, strict=True):
        if answer.HasField("error"):
            text = f'secret "{name}" in namespace "{namespace}" denied by user pre-hook restrictions'
            assert (answer.error.id, answer.error.namespace, answer.error.error) == (name, namespace, text)
        else:
            assert answer.secret.id == name, "the order is kept"
    return [answer.HasField("secret") for answer in answers]


@pytest.mark.parametrize(
    ("restrictions", "asked", "expected"),
    [
        (secrets(0, ("a", "main")), [("a", "main")], [False]),
        (secrets(9), [("a", "main")], [False]),
        (secrets(9, ("a", "main")), [("a", "main"), ("b", "main"), ("a", "other")], [True, False, False]),
        (secrets(9, ("a", "main")), [("b", "main"), ("a", "main")], [False, True]),
        (secrets(1, ("a", "main")), [("a", "main"), ("a", "main")], [True, False]),
        (secrets(9, ("a", "main", 1)), [("ab", "main"), ("ac", "main")], [True, False]),
        (secrets(9, ("a", "x", 9)), [("ab", "main"), ("b", "x"), ("ab", "x")], [False, False, True]),
        # Every matching prefix counts, and one that is used up denies even what is named exactly.
        (secrets(9, ("a", "main", 2), ("ab", "main", 1)),
         [("abc", "main"), ("abd", "main"), ("ac", "main"), ("ad", "main")], [True, False, True, False]),
        (secrets(9, ("ab", "main"), ("a", "main", 0)), [("ab", "main")], [False]),
        (secrets(9, ("", "main", 1)), [("x", "main"), ("y", "main")], [True, False]),
        # The empty namespace is main.
        (secrets(9, ("a", "main")), [("a", "")], [True]),
        (secrets(9, ("a", "")), [("a", "main")], [True]),
        (secrets(9, ("a", ""), ("", "main", 0)), [("a", "")], [False]),
        (secrets(9, ("a", "main"), ("a", "main", 0)), [("a", ""), ("a", "main")], [False, False]),
        (secrets(9, ("", "main", 1)), [("a", ""), ("b", "main"), ("c", "")], [True, False, False]),
        (secrets(9, ("", "", 1)), [("a", "main"), ("b", "")], [True, False]),
        (secrets(9, ("a", "main")), [("a", "Main"), ("a", " "), ("a", " main")], [False, False, False]),
        (secrets(UNLIMITED, ("", "main", UNLIMITED)), [("a", "main")] * 20, [True] * 20),
    ],
)  # fmt: skip
async def test_secrets_are_counted(
    restrictions: Restrictions, asked: list[tuple[str, str]], expected: list[bool]
) -> None:
    helper = Helper()
    assert await get(wrap(restrictions, helper), *asked) == expected
    passed = [(one.id, one.namespace) for request in helper.secrets for one in request.requests]
    assert passed == [one for one, yes in zip(asked, expected, strict=True) if yes]
    assert [request.callback_id for request in helper.secrets] == ([-3] if any(expected) else [])


async def test_denied_secrets_are_quoted_as_go_quotes() -> None:
    one = wrap(secrets(0), Helper())
    name = 'a"b\\c\n\t\x00\x7f\u00a0é\U0001f511\U000e0001'
    (answer,) = await one.get_secrets(GetSecretsRequest(requests=[SecretRequest(id=name)]))
    quoted = r'"a\"b\\c\n\t\x00\x7f\u00a0é' + "\U0001f511" + r'\U000e0001"'
    assert answer.error.error == f'secret {quoted} in namespace "" denied by user pre-hook restrictions'


@pytest.mark.parametrize("answers", [0, 2])
async def test_an_inner_helper_that_does_not_answer_each_secret_is_an_error(answers: int) -> None:
    helper = Helper()
    helper.answers = answers
    with pytest.raises(WorkflowError, match="not every secret was answered"):
        await wrap(secrets(9, ("a", "main")), helper).get_secrets(GetSecretsRequest(requests=[SecretRequest(id="a")]))


# Secrets that a module fetches by itself.


async def test_reserved_secrets_are_counted_as_those_that_are_given() -> None:
    helper = Helper()
    one = wrap(secrets(2, ("a", "main"), ("p", "main", 9)), helper)
    request = GetSecretsRequest(
        requests=[SecretRequest(id="b"), SecretRequest(id="a"), SecretRequest(id="pq", namespace="main")], callback_id=5
    )
    async with one.reserve_secrets(request) as refusals:
        assert helper.reserved == 1, "the place is held while the secrets are fetched"
        assert [refusal is None for refusal in refusals] == [False, True, True]
        assert refusals[0] is not None
        assert refusals[0].error == 'secret "b" in namespace "" denied by user pre-hook restrictions'
    assert helper.reserved == 0
    (passed,) = helper.secrets
    assert ([item.id for item in passed.requests], passed.callback_id) == (["a", "pq"], 5)
    assert await get(one, ("pr", "main")) == [False], "what was reserved is used up"


async def test_a_reservation_of_which_all_is_denied_asks_for_nothing() -> None:
    helper = Helper()
    async with wrap(secrets(0), helper).reserve_secrets(GetSecretsRequest(requests=[SecretRequest(id="a")])) as all_:
        assert [refusal is None for refusal in all_] == [False]
    assert helper.secrets == []


async def test_a_reservation_without_restrictions_of_secrets_is_passed_on() -> None:
    helper = Helper()
    request = GetSecretsRequest(requests=[SecretRequest(id="a")])
    async with wrap(calls(9, (*A, 1)), helper).reserve_secrets(request) as refusals:
        assert refusals == [None]
    assert helper.secrets == [request]


@pytest.mark.parametrize("answers", [0, 2])
async def test_an_inner_helper_that_does_not_judge_each_secret_is_an_error(answers: int) -> None:
    helper = Helper()
    helper.answers = answers
    context = wrap(secrets(9, ("a", "main")), helper).reserve_secrets(
        GetSecretsRequest(requests=[SecretRequest(id="a")])
    )
    with pytest.raises(WorkflowError, match="not every secret was answered"):
        async with context:
            pass


# Secrets inside a call's payload.


def asking(*names: str) -> AnyMessage:
    return AnyMessage(type_url=WITH_SECRETS, value="\n".join(names).encode())


async def test_the_secrets_of_a_payload_count_as_secrets() -> None:
    one = wrap(both(calls(9, (*A, 9)), secrets(2, ("a", "main"), ("b", "main"))), Helper())
    assert await call(one, *A, asking("a", "c")) is False
    assert await call(one, *A, asking("a", "b")) is True
    assert await call(one, *A, asking("a")) is False
    assert await call(one, *A, asking()) is True
    assert await get(one, ("a", "main")) == [False]


async def test_a_denied_call_uses_nothing_up() -> None:
    one = wrap(both(calls(1, (*A, 1)), secrets(2, ("a", "main"), ("", "main", 2))), Helper())
    assert await call(one, *A, asking("a", "a", "a")) is False
    assert await call(one, *B, asking("a")) is False
    assert await call(one, *A, asking("a", "a")) is True


@pytest.mark.parametrize("restrictions", [calls(9, how=OPEN), secrets(9), both(calls(9, how=OPEN), secrets(9))])
async def test_a_payload_that_cannot_be_read_is_denied(restrictions: Restrictions) -> None:
    one = wrap(restrictions, Helper())
    assert await call(one, *A, AnyMessage(type_url=WITH_SECRETS, value=b"\xff")) is False
    assert await call(one, *A, AnyMessage(type_url="x/x.WithSecrets", value=b"\xff")) is False
    assert await call(one, *A, AnyMessage(type_url="type.googleapis.com/x.Other", value=b"\xff")) is True


# What this host cannot read.


@pytest.mark.parametrize(
    "restrictions",
    [
        Restrictions.FromString(b"\x7a\x01x"),
        Restrictions.FromString(b"\x12\x03\x7a\x01x"),
        Restrictions(capabilities=CapabilityRestrictions(restrictions=[CapabilityRestriction()], max_total_calls=9)),
        Restrictions(secrets=SecretsRestritions(restrictions=[SecretRestriction()], max_secrets=9)),
    ],
)
def test_restrictions_that_cannot_be_read_in_full_are_refused(restrictions: Restrictions) -> None:
    with pytest.raises(WorkflowError, match="does not know"):
        wrap(restrictions, Helper())


def test_minus_one_of_an_older_guest_is_unlimited() -> None:
    old = CapabilityRestrictions.FromString(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
    assert old.max_total_calls == UNLIMITED


# A model of the rules, against sequences of anything.

NAMES = st.sampled_from(["", "a", "ab", "abc", "b"])
SPACES = st.sampled_from(["", "main", "x"])
RULES = st.lists(st.tuples(NAMES, SPACES) | st.tuples(NAMES, SPACES, st.integers(0, 3)), max_size=4)


@settings(deadline=None)
@given(st.integers(0, 4), RULES, st.lists(st.tuples(NAMES, SPACES), max_size=8))
def test_no_rule_ever_gives_more_than_it_says(
    total: int, rules: list[tuple[str, str] | tuple[str, str, int]], asked: list[tuple[str, str]]
) -> None:
    given_ = asyncio.run(get(wrap(secrets(total, *rules), Helper()), *asked))
    passed = [one for one, yes in zip(asked, given_, strict=True) if yes]
    assert len(passed) <= total
    for rule in rules:
        if len(rule) == 3:
            matching = [n for n, s in passed if n.startswith(rule[0]) and (s or "main") == (rule[1] or "main")]
            assert len(matching) <= rule[2]
    for name, namespace in passed:
        assert any(
            (namespace or "main") == (rule[1] or "main")
            and (name == rule[0] if len(rule) == 2 else name.startswith(rule[0]))
            for rule in rules
        )

"""Restrictions: what a handler's pre-hook forbids its own execution.

Rules of this module:

1. They are enforced here, in the host. A module is told of them, and is not trusted to keep them.
2. A call is checked as a whole before anything of it is counted: what is refused uses nothing up.
3. A capability is what its id resolves to, so that another spelling of an id is no way around its limit. Secrets are
   compared by name and namespace; the empty namespace is ``main``, as everywhere in this host.
4. Restrictions that this host cannot read in full are refused: something in them may forbid what it would allow.
5. Between check and count nothing else runs (one event loop), so concurrent calls cannot share what is left.

The rules of counting are the reference's (chainlink-common, ``workflows/host/execution_restrictions.go``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from attrs import define
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from innkeeper.modules.requirements import has_unknown_fields
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.errors import WorkflowError
from innkeeper_sdk.module import ExecutionHelper, UserMetric
from innkeeper_sdk.namespaces import normalise
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CAPABILITY_RESTRICTION_TYPE_OPEN,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityRestrictions,
    GetSecretsRequest,
    Restrictions,
    SecretError,
    SecretRequest,
    SecretResponse,
    SecretsRestritions,
)

__all__ = ["PayloadSecrets", "RestrictedHelper", "restricted"]

# Returns the secrets that a payload asks for by itself; raises ValueError or DecodeError if it cannot be read.
PayloadSecrets: TypeAlias = Callable[[AnyMessage], Sequence[SecretRequest]]

_DENIED: Final = "denied by user pre-hook restrictions"
_GO_ESCAPES: Final = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\"",
}  # fmt: skip


def restricted(
    helper: ExecutionHelper,
    restrictions: Restrictions | None,
    *,
    resolve: Callable[[str], str],
    payload_secrets: Mapping[str, PayloadSecrets] | None = None,
) -> ExecutionHelper:
    """Return a helper that keeps restrictions.

    Args:
        helper: The execution's helper.
        restrictions: What the pre-hook answered; None forbids nothing.
        resolve: Returns the id that an asked one stands for to this workflow; the asked one if it stands for nothing.
        payload_secrets: By full message name: how to find the secrets that a call's payload asks for.

    Raises:
        WorkflowError: This host cannot read all of the restrictions.
    """
    if restrictions is None:
        return helper
    return RestrictedHelper(helper, restrictions, resolve=resolve, payload_secrets=payload_secrets or {})


@define
class _Method:
    """A limit of the calls of one method."""

    id: str
    method: str
    left: int


@define
class _Prefix:
    """A limit of the secrets whose names begin alike."""

    prefix: str
    namespace: str
    left: int


class _Calls:
    """What is left of capability calls."""

    def __init__(self, restrictions: CapabilityRestrictions, resolve: Callable[[str], str]) -> None:
        self._resolve = resolve
        self._open = restrictions.type == CAPABILITY_RESTRICTION_TYPE_OPEN
        self._left = restrictions.max_total_calls
        self._methods = []
        for entry in restrictions.restrictions:
            if entry.WhichOneof("restriction") != "method":
                raise _unreadable()
            self._methods.append(_Method(entry.method.id, entry.method.method, entry.method.max_calls))

    def take(self, capability_id: str, method: str) -> Callable[[], None] | None:
        """Return what counts one call, or None if it is denied."""
        matching = [one for one in self._methods if one.method == method and self._same(one.id, capability_id)]
        # Several entries of one method: the smallest decides, and all count.
        if self._left == 0 or any(one.left == 0 for one in matching) or not (matching or self._open):
            return None

        def count() -> None:
            self._left -= 1
            for one in matching:
                one.left -= 1

        return count

    def _same(self, restricted_id: str, asked_id: str) -> bool:
        return restricted_id == asked_id or self._resolve(restricted_id) == self._resolve(asked_id)


class _Secrets:
    """What is left of secrets."""

    def __init__(self, restrictions: SecretsRestritions) -> None:
        self._left = restrictions.max_secrets
        self._exact: set[tuple[str, str]] = set()
        self._prefixes: list[_Prefix] = []
        for entry in restrictions.restrictions:
            match entry.WhichOneof("restriction"):
                case "exact_secret":
                    self._exact.add((entry.exact_secret.id, normalise(entry.exact_secret.namespace)))
                case "prefixed_secret":
                    rule = entry.prefixed_secret
                    self._prefixes.append(_Prefix(rule.prefix, normalise(rule.namespace), rule.max_secrets))
                case None:
                    raise _unreadable()

    def take(self, requests: Sequence[SecretRequest]) -> bool:
        """Count secrets if all of them are allowed together; return whether they are."""
        before = (self._left, [rule.left for rule in self._prefixes])
        if all(self._take(request.id, normalise(request.namespace)) for request in requests):
            return True
        self._left, lefts = before
        for rule, left in zip(self._prefixes, lefts, strict=True):
            rule.left = left
        return False

    def _take(self, name: str, namespace: str) -> bool:
        matching = [rule for rule in self._prefixes if rule.namespace == namespace and name.startswith(rule.prefix)]
        known = bool(matching) or (name, namespace) in self._exact
        if self._left == 0 or not known or any(rule.left == 0 for rule in matching):
            return False
        self._left -= 1
        for rule in matching:
            rule.left -= 1
        return True


class RestrictedHelper:
    """An execution helper that keeps restrictions; see ``restricted``."""

    def __init__(
        self,
        helper: ExecutionHelper,
        restrictions: Restrictions,
        *,
        resolve: Callable[[str], str],
        payload_secrets: Mapping[str, PayloadSecrets],
    ) -> None:
        if has_unknown_fields(restrictions):
            raise _unreadable()
        self._helper = helper
        self._payload_secrets = payload_secrets
        self._calls = _Calls(restrictions.capabilities, resolve) if restrictions.HasField("capabilities") else None
        self._secrets = _Secrets(restrictions.secrets) if restrictions.HasField("secrets") else None

    @property
    def execution_id(self) -> str:
        """Return the execution's id."""
        return self._helper.execution_id

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability if nothing forbids it.

        Raises:
            CapabilityError: It is forbidden, or it failed.
            InnkeeperError: It was refused.
        """
        if not self._allow(request):
            raise CapabilityError(
                f"call {_DENIED}: {request.id} {request.method}",
                error_code=ErrorCode.LimitExceeded,
                origin=Origin.USER,
            )
        return await self._helper.call_capability(request)

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        """Return one answer per requested secret, in their order; a forbidden one is answered by its error.

        Raises:
            InnkeeperError: The whole request was refused.
        """
        if self._secrets is None:
            return await self._helper.get_secrets(request)
        allowed = [self._secrets.take([item]) for item in request.requests]
        passed = [item for item, yes in zip(request.requests, allowed, strict=True) if yes]
        answers: Sequence[SecretResponse] = ()
        if passed:
            answers = await self._helper.get_secrets(
                GetSecretsRequest(requests=passed, callback_id=request.callback_id)
            )
        if len(answers) != len(passed):
            raise WorkflowError(
                "not every secret was answered", expected=f"{len(passed)} answers", actual=str(len(answers))
            )
        rest = iter(answers)
        return [
            next(rest) if yes else SecretResponse(error=_denied(item))
            for item, yes in zip(request.requests, allowed, strict=True)
        ]

    @asynccontextmanager
    async def reserve_secrets(self, request: GetSecretsRequest) -> AsyncIterator[Sequence[SecretError | None]]:
        """Admit a request for secrets that the module fetches by itself; a forbidden one is answered by its error.

        Raises:
            InnkeeperError: The whole request was refused.
        """
        if self._secrets is None:
            async with self._helper.reserve_secrets(request) as refusals:
                yield refusals
            return
        denials = [None if self._secrets.take([item]) else _denied(item) for item in request.requests]
        passed = [item for item, denial in zip(request.requests, denials, strict=True) if denial is None]
        if not passed:
            yield denials
            return
        inner = GetSecretsRequest(requests=passed, callback_id=request.callback_id)
        async with self._helper.reserve_secrets(inner) as refusals:
            if len(refusals) != len(passed):
                raise WorkflowError(
                    "not every secret was answered", expected=f"{len(passed)} answers", actual=str(len(refusals))
                )
            rest = iter(refusals)
            yield [next(rest) if denial is None else denial for denial in denials]

    async def node_time(self) -> int:
        """Return this node's time, in nanoseconds since the epoch."""
        return await self._helper.node_time()

    async def don_time(self) -> int:
        """Return the DON's time, in nanoseconds since the epoch."""
        return await self._helper.don_time()

    def emit_log(self, message: str) -> None:
        """Record one line of the workflow's log."""
        self._helper.emit_log(message)

    def emit_metric(self, metric: UserMetric) -> None:
        """Record one user metric.

        Raises:
            InnkeeperError: It was refused.
        """
        self._helper.emit_metric(metric)

    def _allow(self, request: CapabilityRequest) -> bool:
        count: Callable[[], None] | None = None
        if self._calls is not None:
            count = self._calls.take(request.id, request.method)
            if count is None:
                return False
        find = self._payload_secrets.get(request.payload.type_url.rpartition("/")[2])
        if find is not None:
            try:
                wanted = find(request.payload)
            except (ValueError, DecodeError):
                return False
            if self._secrets is not None and not self._secrets.take(wanted):
                return False
        if count is not None:
            count()
        return True


def _denied(request: SecretRequest) -> SecretError:
    text = f"secret {_quote(request.id)} in namespace {_quote(request.namespace)} {_DENIED}"
    return SecretError(id=request.id, namespace=request.namespace, error=text)


def _unreadable() -> WorkflowError:
    return WorkflowError(
        "the pre-hook's restrictions say something that this host does not know",
        hint="update the host, or build the workflow with an SDK that it knows",
    )


def _quote(text: str) -> str:
    """Return a text in quotes as Go's ``%q`` does."""
    return '"' + "".join(_GO_ESCAPES.get(char) or _escape(char) for char in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

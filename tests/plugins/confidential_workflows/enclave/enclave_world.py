"""A launcher with its enclave, a host that answers it with the real verifier, and guests in the text format."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wasmtime
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.process.enclave import Enclave
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
)
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as pb
from innkeeper_confidential_workflows.protocol.bodies import CapabilityBody, ResultBody, SecretName, SecretsBody
from innkeeper_confidential_workflows.protocol.challenges import Challenges, Purpose
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.protocol.envelope import Verified, verify_envelope
from innkeeper_confidential_workflows.protocol.hashing import request_digest
from innkeeper_confidential_workflows.protocol.measurements import FirstMeasurement
from innkeeper_confidential_workflows.protocol.releases import (
    RefusedSecret,
    Release,
    ReleaseItem,
    SealedSecret,
    seal_info,
    sign_release,
)
from innkeeper_confidential_workflows.protocol.replies import Reply, sign_reply
from innkeeper_confidential_workflows.protocol.sealing import seal
from innkeeper_confidential_workflows.protocol.signatures import sign
from innkeeper_sdk.capability import CapabilityError, CapabilityInfo, CapabilityRequest, CapabilityResponse, ErrorCode
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from innkeeper_sdk.proto.values.v1.values_pb2 import Map
from innkeeper_sdk.values import unwrap, wrap

CHUNK = 1 << 20
WORKFLOW = "11" * 32
OWNER = "22" * 20
MARK = "enclave-tests"

# Guests


IN, OUT = 0x1000, 0x8000
"""Where a guest finds what it says, and where what it is told goes."""

_IMPORTS = """
 (import "env" "version_v2_test" (func $version))
 (import "env" "send_response" (func $send_response (param i32 i32) (result i32)))
 (import "env" "call_capability" (func $call_capability (param i32 i32) (result i64)))
 (import "env" "await_capabilities" (func $await_capabilities (param i32 i32 i32 i32) (result i64)))
 (import "env" "get_secrets" (func $get_secrets (param i32 i32 i32 i32) (result i64)))
 (import "env" "await_secrets" (func $await_secrets (param i32 i32 i32 i32) (result i64)))
 (import "env" "log" (func $log (param i32 i32)))
 (import "env" "emit_metric" (func $emit_metric (param i32 i32) (result i32)))
 (import "env" "switch_modes" (func $switch_modes (param i32)))
 (import "env" "random_seed" (func $random_seed (param i32) (result i64)))
 (import "env" "now" (func $now (param i32) (result i32)))
 (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""


class Guest:
    """Writes a guest that makes its calls one after the other, with what it says in its memory."""

    def __init__(self) -> None:
        self._steps: list[str] = []
        self._data: list[tuple[int, bytes]] = []
        self._at = IN

    def say(self, data: bytes | Message) -> tuple[int, int]:
        """Put something into the guest's memory; return where it is, and how long."""
        content = data if isinstance(data, bytes) else data.SerializeToString(deterministic=True)
        at, self._at = self._at, self._at + len(content)
        self._data.append((at, content))
        return at, len(content)

    def call(self, name: str, *numbers: int, drop: bool = True) -> Guest:
        """Make a call."""
        text = f"(call ${name} {' '.join(f'(i32.const {number})' for number in numbers)})"
        self._steps.append(f"(drop {text})" if drop else text)
        return self

    def store(self, at: int, byte: int) -> Guest:
        """Write a byte."""
        self._steps.append(f"(i32.store8 (i32.const {at}) (i32.const {byte}))")
        return self

    def trap(self) -> Guest:
        """Trap."""
        self._steps.append("(unreachable)")
        return self

    def loop(self) -> Guest:
        """Compute for ever."""
        self._steps.append("(loop $for_ever (br $for_ever))")
        return self

    def capability(self, request: sdk.CapabilityRequest) -> Guest:
        """Call a capability and await its answer, which goes to OUT."""
        self.call("call_capability", *self.say(request))
        asked = self.say(sdk.AwaitCapabilitiesRequest(ids=[request.callback_id]))
        return self.call("await_capabilities", *asked, OUT, 0x8000)

    def secrets(self, *names: tuple[str, str], call_id: int = 1, capacity: int = 0x8000) -> Guest:
        """Ask for secrets and await them at OUT; names are pairs of a namespace and a key."""
        request = sdk.GetSecretsRequest(
            requests=[sdk.SecretRequest(namespace=namespace, id=key) for namespace, key in names], callback_id=call_id
        )
        self.call("get_secrets", *self.say(request), OUT, 0x8000)
        return self.call("await_secrets", *self.say(sdk.AwaitSecretsRequest(ids=[call_id])), OUT, capacity)

    def tell(self, length: int) -> Guest:
        """Answer with an error whose text is what was told: so many bytes of it, below 128 or up to 16383."""
        size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
        head = b"\x12" + size
        for offset, byte in enumerate(head):
            self.store(OUT - len(head) + offset, byte)
        return self.call("send_response", OUT - len(head), len(head) + length)

    def answer(self, result: sdk.ExecutionResult) -> Guest:
        """Answer with a result."""
        return self.call("send_response", *self.say(result))

    def binary(self) -> bytes:
        """Return the guest."""
        data = "\n".join(
            f'(data (i32.const {at}) "{"".join(f"{chr(92)}{byte:02x}" for byte in content)}")'
            for at, content in self._data
        )
        steps = "\n".join(self._steps)
        return bytes(
            wasmtime.wat2wasm(
                f'(module {_IMPORTS} (memory (export "memory") 2) {data} (func (export "_start") (call $version) '
                f"{steps} (call $proc_exit (i32.const 0))))"
            )
        )


def value_result(text: str) -> sdk.ExecutionResult:
    """Return a result with a value."""
    return sdk.ExecutionResult(value=wrap(text))


def hello(text: str = "hello") -> bytes:
    """Return a guest that only answers."""
    return Guest().answer(value_result(text)).binary()


def work(
    binary: bytes, execution: int | str = 1, *, kind: str = "trigger", config: bytes = b"", **fields: Any
) -> ConfidentialWorkflowRequest:
    """Return a request to run a binary.

    Args:
        binary: The binary, which its locator and hash name.
        execution: Its id, or a number to make one of; of none while subscribing.
        kind: What the guest is asked for.
        config: The guest's configuration.
        fields: Fields of the execution that are to be others.
    """
    request = sdk.ExecuteRequest(config=config)
    getattr(request, kind).SetInParent()
    digest = hashlib.sha256(binary)
    id_ = execution if isinstance(execution, str) else f"{execution:064x}"
    content = {
        "workflow_id": WORKFLOW,
        "owner": f"0x{OWNER}",
        "execution_id": "" if kind == "subscribe" else id_,
        "binary_url": f"artifact:sha256/{digest.hexdigest()}",
        "binary_hash": digest.digest(),
        "execute_request": request.SerializeToString(deterministic=True),
        "sdk_execute_request": request,
        **fields,
    }
    return ConfidentialWorkflowRequest(execution={name: value for name, value in content.items() if value is not None})


# The host


@define
class Host:
    """Answers an enclave as relay, vault and artifacts do, and remembers it.

    Attributes:
        trust: What documents are verified against.
        artifacts: Binaries by their locators; an exception is raised instead.
        secrets: Secrets by namespace and key.
        requests: Every request that came, as it came.
        challenges: Issues challenges.
        bodies: What was verified, in order.
        public_keys: The keys that secrets were sealed to, in order.
        on_capability: Answers calls.
        change_release: Changes what the vault has answered, on its way.
        change_reply: Changes what the relay has answered and signed, on its way, by the method.
    """

    trust: FirstMeasurement
    vault: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    host: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    artifacts: dict[str, bytes | Exception] = field(factory=dict)
    secrets: dict[tuple[str, str], str] = field(factory=dict)
    requests: list[CapabilityRequest] = field(factory=list)
    challenges: Challenges = field(factory=lambda: Challenges(lambda: datetime.now(UTC)))
    bodies: list[SecretsBody | CapabilityBody | ResultBody] = field(factory=list)
    public_keys: list[bytes] = field(factory=list)
    on_capability: Callable[[sdk.CapabilityRequest], Awaitable[sdk.CapabilityResponse]] | None = None
    change_release: Callable[[pb.ReleaseReply], pb.ReleaseReply] | None = None
    change_reply: Callable[[str, pb.SignedReply], pb.SignedReply] | None = None
    reads: int = 0
    time: int = 1_700_000_000_000_000_000

    @property
    def config(self) -> EnclaveConfig:
        return EnclaveConfig(
            host_key=self.host.public_key().public_bytes_raw(), vault_key=self.vault.public_key().public_bytes_raw()
        )

    def add(self, binary: bytes) -> bytes:
        """Store a binary."""
        self.artifacts[f"artifact:sha256/{hashlib.sha256(binary).hexdigest()}"] = binary
        return binary

    def list(self) -> Any:
        raise NotImplementedError

    async def infos(self) -> list[CapabilityInfo]:
        return []

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call."""
        self.requests.append(request)
        if request.capability_id == "artifacts@1.0.0":
            return _packed(self._read(request))
        assert request.capability_id == "confidential-relay@1.0.0"
        try:
            return _packed(await getattr(self, f"_{request.method}")(request))
        except AttestationError as error:
            raise CapabilityError(str(error), error_code=ErrorCode.PermissionDenied) from None

    def _read(self, request: CapabilityRequest) -> Map:
        self.reads += 1
        asked = Map()
        assert request.payload.Unpack(asked)
        locator, offset = (unwrap(asked.fields[name]) for name in ("locator", "offset"))
        assert isinstance(locator, str)
        assert isinstance(offset, int)
        binary = self.artifacts.get(locator)
        if binary is None:
            raise CapabilityError("no such artifact", error_code=ErrorCode.NotFound)
        if isinstance(binary, Exception):
            raise binary
        return Map(fields={"data": wrap(binary[offset : offset + CHUNK]), "size": wrap(len(binary))})

    async def _Configuration(self, request: CapabilityRequest) -> Message:
        return pb.EnclaveConfiguration(body=self.config.encode())

    async def _Challenge(self, request: CapabilityRequest) -> Message:
        asked = _unpacked(pb.ChallengeRequest, request)
        issued = self.challenges.issue(asked.workflow_id, asked.execution_id, Purpose.of(asked.purpose))
        return pb.Challenge(id=issued.id, nonce=issued.nonce, expires_ms=issued.expires_ms)

    async def _SecretsGet(self, request: CapabilityRequest) -> Message:
        asked = _unpacked(pb.AttestedRequest, request)
        verified = self._verified(SecretsBody, asked)
        public_key, nonce = verified.attestation.public_key, verified.attestation.nonce
        assert public_key is not None
        assert nonce is not None
        self.public_keys.append(public_key)
        items = tuple(self._item(verified.body, name, public_key, nonce) for name in verified.body.secrets)
        body, signature = sign_release(Release(request_sha256=request_digest(asked.body), items=items), self.vault)
        reply = pb.ReleaseReply(body=body, signature=signature)
        return reply if self.change_release is None else self.change_release(reply)

    def _item(self, body: SecretsBody, name: SecretName, public_key: bytes, nonce: bytes) -> ReleaseItem:
        value = self.secrets.get((name.namespace, name.key))
        if value is None:
            return RefusedSecret(namespace=name.namespace, key=name.key, error="no such secret")
        sealed = seal(public_key, seal_info(body, name, 1, nonce), value.encode())
        return SealedSecret(namespace=name.namespace, key=name.key, version=1, sealed=sealed)

    async def _CapabilityExecute(self, request: CapabilityRequest) -> Message:
        body = self._verified(CapabilityBody, _unpacked(pb.AttestedRequest, request)).body
        call = sdk.CapabilityRequest.FromString(body.payload)
        return self._signed(request, await self._called(call))

    async def _called(self, call: sdk.CapabilityRequest) -> sdk.CapabilityResponse:
        if self.on_capability is not None:
            try:
                return await self.on_capability(call)
            except CapabilityError as error:
                return sdk.CapabilityResponse(error=error.serialize())
        payload = AnyMessage()
        payload.Pack(StringValue(value=call.method))
        return sdk.CapabilityResponse(payload=payload)

    async def _ResultSubmit(self, request: CapabilityRequest) -> Message:
        self._verified(ResultBody, _unpacked(pb.AttestedRequest, request))
        return Empty()

    async def _Clock(self, request: CapabilityRequest) -> Message:
        asked = _unpacked(pb.ClockRequest, request)
        return self._signed(request, pb.ClockReply(time_ns=self.time + asked.don))

    def _signed(self, request: CapabilityRequest, message: Message) -> pb.SignedReply:
        reply = Reply(
            method=request.method,
            request_sha256=request_digest(request.payload.value),
            answer=message.SerializeToString(deterministic=True),
        )
        body, signature = sign_reply(reply, lambda prefix, data: sign(self.host, prefix, data))
        signed = pb.SignedReply(body=body, signature=signature)
        return signed if self.change_reply is None else self.change_reply(request.method, signed)

    def _verified(self, kind: type[Any], asked: pb.AttestedRequest) -> Verified[Any]:
        verified: Verified[Any] = verify_envelope(
            kind,
            asked.body,
            asked.attestation,
            challenges=self.challenges,
            trust=self.trust,
            config=self.config,
            now=datetime.now(UTC),
            authorise=lambda _: None,
            workflow_id=asked.workflow_id,
            execution_id=asked.execution_id,
        )
        self.bodies.append(verified.body)
        return verified

    @property
    def results(self) -> list[ResultBody]:
        """The results that were submitted."""
        return [body for body in self.bodies if isinstance(body, ResultBody)]


def _packed(message: Message) -> CapabilityResponse:
    payload = AnyMessage()
    payload.Pack(message)
    return CapabilityResponse(payload)


def _unpacked(kind: type[Any], request: CapabilityRequest) -> Any:
    message = kind()
    assert request.payload.Unpack(message)
    return message


# The processes


def directories(root: Path) -> tuple[Path, Path]:
    """Make the provider's directories; return that of its data, and that which goes with the host."""
    data, runtime = root / "data", root / "run"
    for directory in (data, runtime):
        directory.mkdir(mode=0o700, exist_ok=True)
    return data, runtime


def start_launcher(root: Path, **changes: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a launcher; return it, and its parent's end of the socket.

    Args:
        root: Where its directories are.
        changes: Variables of its environment that are to be others.
    """
    data, runtime = directories(root)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {
        "LANG": "C.UTF-8",
        "INNKEEPER_GUARDED": MARK,
        "INNKEEPER_PROVIDER": "confidential-workflows",
        "INNKEEPER_PROCESS": "launcher",
        "INNKEEPER_ENVIRONMENT": "development",
        "INNKEEPER_DATA_DIR": str(data),
        "INNKEEPER_RUNTIME_DIR": str(runtime),
        "INNKEEPER_HELPER_LAUNCHER_FD": str(theirs.fileno()),
        **changes,
    }
    with theirs:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "innkeeper-enclave-launcher"],
            pass_fds=(theirs.fileno(),),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    return process, ours


def descendants(pid: int) -> list[int]:
    """Return the processes below one, itself not counted."""
    found, todo = [], [pid]
    while todo:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{(next_ := todo.pop())}/task/{next_}/children").read_bytes().split()
            found += (new := [int(child) for child in children])
            todo += new
    return found


@contextlib.asynccontextmanager
async def ends(*pids: int, seconds: float = 20.0) -> AsyncIterator[None]:
    """Wait, at the end of the block, until these processes have ended."""
    loop = asyncio.get_running_loop()
    ended = {os.pidfd_open(pid): asyncio.Event() for pid in pids}
    try:
        for pidfd, event in ended.items():
            loop.add_reader(pidfd, event.set)
        yield
        async with asyncio.timeout(seconds):
            for event in ended.values():
                await event.wait()
    finally:
        for pidfd in ended:
            loop.remove_reader(pidfd)
            os.close(pidfd)


@define
class World:
    """A host, and an enclave that has booted for it.

    Attributes:
        host: The host.
        enclave: The parent's end of the enclave.
        launcher: The launcher.
        gone: Set when the parent has noticed that the enclave is over.
    """

    host: Host
    enclave: Enclave
    launcher: subprocess.Popen[bytes]
    gone: asyncio.Event

    @property
    def monitor(self) -> int:
        """The monitor's process id."""
        return descendants(self.launcher.pid)[0]

    async def run(self, request: ConfidentialWorkflowRequest, seconds: float = 60.0) -> sdk.ExecutionResult:
        """Execute a request, and return its result, whose two forms must be the same."""
        data = await self.enclave.execute(request.SerializeToString(deterministic=True), seconds)
        response = ConfidentialWorkflowResponse.FromString(data)
        result = sdk.ExecutionResult.FromString(response.execution_result)
        assert result == response.sdk_execution_result
        return result

    async def failure(self, request: ConfidentialWorkflowRequest, seconds: float = 60.0) -> CapabilityError:
        """Execute a request that fails, and return its error."""
        try:
            result = await self.run(request, seconds)
        except CapabilityError as error:
            return error
        raise AssertionError(f"it did not fail: {result}")


@contextlib.asynccontextmanager
async def booted(root: Path) -> AsyncIterator[World]:
    """Have a launcher, an enclave and a host for as long as the block lasts; leave nothing behind."""
    launcher, ours = start_launcher(root)
    assert launcher.stderr is not None
    logger = logging.getLogger("tests.enclave")
    gone = asyncio.Event()
    host = Host(trust=FirstMeasurement(root / "trust" / "pin.json", logger))
    enclave = Enclave(ours, logger, on_gone=gone.set)
    try:
        await enclave.boot(host.config.encode())
        enclave.registry = host
        yield World(host=host, enclave=enclave, launcher=launcher, gone=gone)
    finally:
        below = descendants(launcher.pid)
        async with ends(launcher.pid, *below):
            await enclave.close()
        launcher.wait()
        launcher.stderr.close()

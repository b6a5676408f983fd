"""The launcher as a process: where it refuses, what it starts, and what ends what."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from innkeeper_confidential_workflows.attestation import Expectations, Root, Tee, peek_root, verify
from innkeeper_confidential_workflows.enclave.channel import FrameChannel
from innkeeper_confidential_workflows.enclave.frames import BOOT_METHOD, Booted, Cancel, Refusal
from innkeeper_confidential_workflows.launcher.bundle import find_bundle
from innkeeper_confidential_workflows.launcher.main import AUTHORITY_DIRECTORY
from innkeeper_confidential_workflows.launcher.measure import measure
from innkeeper_confidential_workflows.launcher.messages import BootRequest, receive_started
from innkeeper_confidential_workflows.nsm.authority import ROOT_FILE, utc_now
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig
from innkeeper_confidential_workflows.protocol.hashing import user_data_of
from tests.plugins.confidential_workflows.enclave.enclave_world import (
    MARK,
    descendants,
    ends,
    start_launcher,
)

CONFIG = EnclaveConfig(host_key=bytes(32), vault_key=bytes([1]) * 32)
SECONDS = 30


class Launched:
    """A launcher of one test, and its parent's end."""

    def __init__(self, root: Path, **changes: str) -> None:
        self.root = root
        self.nonce = secrets.token_bytes(32)
        self.process, self.parent = start_launcher(root, **changes)
        self.parent.settimeout(SECONDS)
        self.channel: FrameChannel | None = None

    async def boot(self) -> Booted:
        """Boot the enclave; return what it says."""
        self.parent.send(BootRequest(config=CONFIG.encode(), nonce=self.nonce).encode())
        _, stream = await asyncio.to_thread(receive_started, self.parent)
        self.channel = await FrameChannel.open(stream)
        async with asyncio.timeout(SECONDS):
            booted = await self.channel.receive()
        assert isinstance(booted, Booted)
        return booted

    @property
    def monitor(self) -> int:
        return descendants(self.process.pid)[0]

    async def ended(self) -> tuple[int, str]:
        """Wait for the launcher's end; return its status and what it said."""
        _, said = await asyncio.to_thread(self.process.communicate, None, SECONDS)
        return self.process.returncode, said.decode()

    def close(self) -> None:
        self.parent.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
async def launched(tmp_path: Path) -> Any:
    made: list[Launched] = []

    def launch(**changes: str) -> Launched:
        made.append(Launched(tmp_path, **changes))
        return made[-1]

    yield launch
    for one in made:
        if one.channel is not None:
            await one.channel.close()
        one.close()


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("environment", ["production", "", "Development"])
async def test_outside_development_it_refuses_in_one_sentence(launched: Any, environment: str) -> None:
    status, said = await launched(INNKEEPER_ENVIRONMENT=environment).ended()
    assert status == 3
    assert len(said.splitlines()) == 1
    assert "development" in said


async def test_nothing_is_made_where_it_refuses(launched: Any, tmp_path: Path) -> None:
    await launched(INNKEEPER_ENVIRONMENT="production").ended()
    assert list((tmp_path / "data").iterdir()) == list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"INNKEEPER_HELPER_LAUNCHER_FD": ""}, "INNKEEPER_HELPER_LAUNCHER_FD"),
        ({"INNKEEPER_HELPER_LAUNCHER_FD": "999"}, "INNKEEPER_HELPER_LAUNCHER_FD"),
        ({"INNKEEPER_DATA_DIR": ""}, "INNKEEPER_DATA_DIR"),
        ({"INNKEEPER_RUNTIME_DIR": "/there/is/none"}, "INNKEEPER_RUNTIME_DIR"),
    ],
)
async def test_what_the_host_has_not_said_is_named(launched: Any, changes: dict[str, str], text: str) -> None:
    status, said = await launched(**changes).ended()
    assert status == 1
    assert text in said


async def test_the_enclave_shows_itself_with_what_was_measured_and_configured(launched: Any, tmp_path: Path) -> None:
    launcher = launched()
    booted = await launcher.boot()
    root = Root((tmp_path / "data" / AUTHORITY_DIRECTORY / ROOT_FILE).read_bytes(), Tee.SIM)
    assert peek_root(booted.document) == root.certificate
    attestation = verify(
        booted.document,
        now=utc_now(),
        roots=[root],
        expect=Expectations(nonce=launcher.nonce, user_data=user_data_of(BOOT_METHOD, CONFIG.encode())),
    )
    assert attestation.tee is Tee.SIM
    assert attestation.module_id.startswith("i-INSECURE-SIM-")
    expected = measure(find_bundle(), attestation.module_id)
    assert {index: attestation.pcrs[index] for index in expected} == expected
    assert attestation.pcrs[16] == CONFIG.pcr
    assert attestation.pcrs[3] == attestation.pcrs[8] == bytes(48)


async def test_it_says_that_it_is_a_simulation(launched: Any) -> None:
    launcher = launched()
    launcher.parent.close()
    status, said = await launcher.ended()
    assert "INSECURE SIMULATION" in said.splitlines()[0]
    assert status == 0


def open_files(pid: int) -> list[str]:
    return sorted(os.readlink(path).partition(":")[0] for path in Path(f"/proc/{pid}/fd").iterdir())


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def arguments(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


async def test_the_monitor_has_two_sockets_no_input_and_the_mark_alone(launched: Any) -> None:
    launcher = launched()
    await launcher.boot()
    monitor = launcher.monitor
    assert environment(monitor) == [b"LANG=C.UTF-8", f"INNKEEPER_GUARDED={MARK}".encode(), b""]
    flags = arguments(monitor)
    assert flags[1:4] == [b"-I", b"-S", b"-B"]
    assert "NoNewPrivs:\t1" in status_of(monitor)
    assert resource.prlimit(monitor, resource.RLIMIT_CORE) == (0, 0)
    assert os.readlink(f"/proc/{monitor}/cwd") == "/"
    inherited = [os.readlink(f"/proc/{monitor}/fd/{number}") for number in (0, 1, 2)]
    assert inherited[0] == "/dev/null"
    assert inherited[1] == inherited[2] != "/dev/null"


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_the_end_of_the_parent_ends_everything(launched: Any, tmp_path: Path, stopped: bool) -> None:
    launcher = launched()
    await launcher.boot()
    (scratch,) = (tmp_path / "run").iterdir()
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    below = descendants(launcher.process.pid)
    if stopped:
        for pid in below:
            os.kill(pid, signal.SIGSTOP)
    async with ends(launcher.process.pid, *below):
        launcher.parent.close()
        assert launcher.channel is not None
        await launcher.channel.close()
    assert not [pid for pid in below if there(pid)]
    assert list((tmp_path / "run").iterdir()) == []


async def test_the_end_of_the_monitor_ends_the_launcher_and_says_so(launched: Any) -> None:
    launcher = launched()
    await launcher.boot()
    below = descendants(launcher.process.pid)
    async with ends(*below):
        os.kill(launcher.monitor, signal.SIGKILL)
        status, said = await launcher.ended()
    assert status == 1
    assert "the enclave is over: the enclave has ended" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_end_of_the_launcher_ends_the_enclave(launched: Any, number: int) -> None:
    launcher = launched()
    await launcher.boot()
    async with ends(*descendants(launcher.process.pid)):
        launcher.process.send_signal(number)
        await launcher.ended()


async def test_a_directory_that_a_killed_launcher_left_is_removed_by_the_next(launched: Any, tmp_path: Path) -> None:
    first = launched()
    await first.boot()
    (left,) = (tmp_path / "run").iterdir()
    async with ends(*descendants(first.process.pid)):
        first.process.kill()
        await first.ended()
    assert left.exists()
    second = launched()
    await second.boot()
    assert not left.exists()
    (own,) = (tmp_path / "run").iterdir()
    third = launched()
    await third.boot()
    assert own.exists()


@pytest.mark.parametrize(
    "packet",
    [b"nonsense", BootRequest(config=b"no configuration", nonce=bytes(32)).encode(), b"\0" * 8192],
    ids=["no map", "no configuration", "long"],
)
async def test_a_boot_that_is_none_ends_everything(launched: Any, packet: bytes) -> None:
    launcher = launched()
    launcher.parent.send(packet)
    status, said = await launcher.ended()
    assert status == 1
    assert "asked for what it must not" in said


async def test_a_second_boot_ends_everything(launched: Any) -> None:
    launcher = launched()
    await launcher.boot()
    launcher.parent.send(BootRequest(config=CONFIG.encode(), nonce=bytes(32)).encode())
    assert (await launcher.ended())[0] == 1


@pytest.mark.parametrize("frame", [Refusal(id=1, error="x"), Booted(document=b"")], ids=["no question", "its own"])
async def test_a_frame_that_no_parent_sends_ends_the_enclave(launched: Any, frame: Any) -> None:
    launcher = launched()
    await launcher.boot()
    await launcher.channel.send(frame)
    status, said = await launcher.ended()
    assert status == 1
    assert "the conversation with the parent is over" in said


async def test_cancelling_what_does_not_run_does_nothing(launched: Any) -> None:
    launcher = launched()
    await launcher.boot()
    await launcher.channel.send(Cancel(id=7))
    launcher.parent.close()
    assert (await launcher.ended())[0] == 0


def test_a_monitor_of_its_own_speaks_to_nobody_but_its_sockets(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *find_bundle_command(tmp_path),
            "innkeeper_confidential_workflows.enclave.monitor",
            "1",
            "0",
            "0",
            str(tmp_path),
        ],
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    # It is not the child of who it is told to be, so it ends before it does anything.
    assert done.returncode == 1
    assert done.stdout == done.stderr == b""


def find_bundle_command(tmp_path: Path) -> tuple[str, ...]:
    bundle = find_bundle()
    bundle.link(tmp_path / "bundle")
    return bundle.command(tmp_path / "bundle", tmp_path / "no-cache")

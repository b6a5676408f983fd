"""Where a secret must not be found: frames, requests, logs, command lines, environments and files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from innkeeper_confidential_workflows.enclave import channel as channel_module
from innkeeper_sdk.capability import CapabilityError
from tests.plugins.confidential_workflows.enclave.enclave_world import (
    MARK,
    OUT,
    Guest,
    booted,
    descendants,
    value_result,
    work,
)

CANARY = "canary-1d8e0c"
FORMS = (CANARY.encode(), CANARY.encode().hex().encode(), CANARY.encode()[:9])


def absent(data: bytes) -> bool:
    return not any(form in data for form in FORMS)


def about(pid: int) -> bytes:
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def files_below(directory: Path) -> list[Path]:
    found = []
    for place, _, names in os.walk(directory):
        found += [Path(place, name) for name in names]
    return found


async def test_a_secret_is_in_no_frame_log_command_line_environment_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames: list[bytes] = []
    decode = channel_module.decode

    def record(data: bytes) -> Any:
        frames.append(data)
        return decode(data)

    monkeypatch.setattr(channel_module, "decode", record)
    caplog.set_level(logging.DEBUG)
    waiting, release = asyncio.Event(), asyncio.Event()

    async def hold(_: Any) -> Any:
        waiting.set()
        await release.wait()
        raise RuntimeError(CANARY)  # What the host says by accident is not told either.

    guest = Guest().secrets(("", "k")).call("switch_modes", 1, drop=False)
    guest.call("log", OUT, 200, drop=False).call("emit_metric", OUT, 200)
    from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import CapabilityRequest

    guest.capability(CapabilityRequest(id="a@1.0.0", method="m", callback_id=9)).answer(value_result("done"))
    async with booted(tmp_path) as world:
        world.host.secrets[("main", "k")] = CANARY
        world.host.on_capability = hold
        running = asyncio.create_task(world.run(work(world.host.add(guest.binary()))))
        async with asyncio.timeout(30):
            await waiting.wait()
        # The execution holds the secret now.
        below = descendants(world.launcher.pid)
        assert len(below) >= 4
        for pid in (world.launcher.pid, *below):
            with contextlib.suppress(FileNotFoundError):
                assert absent(about(pid))
                assert f"INNKEEPER_GUARDED={MARK}".encode() in about(pid)
        for file in files_below(tmp_path):
            if file.is_file():
                assert absent(file.read_bytes()), file
        release.set()
        with pytest.raises(CapabilityError, match="internal: the host could not answer"):
            await running
        sent = [request.payload.value for request in world.host.requests]
        stderr = world.launcher.stderr
    assert stderr is not None
    assert len(frames) > 5
    assert all(absent(data) for data in (*frames, *sent))
    assert absent(caplog.text.encode())


async def test_what_a_guest_chooses_is_not_in_the_enclaves_log(tmp_path: Path) -> None:
    guest = Guest().call("switch_modes", 1, drop=False).call("log", OUT, 1_234_567, drop=False)
    guest.call("send_response", OUT, 123_456_789).answer(value_result("done"))
    async with booted(tmp_path) as world:
        assert await world.run(work(world.host.add(guest.binary()))) == value_result("done")
        assert world.launcher.stderr is not None
        os.set_blocking(world.launcher.stderr.fileno(), False)
        said = os.read(world.launcher.stderr.fileno(), 1 << 20)
    assert b"INSECURE SIMULATION" in said
    assert b"1234567" not in said


async def test_an_enclave_leaves_no_process_descriptor_or_file_behind(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    async with booted(tmp_path) as world:
        for number in range(1, 4):
            await world.run(work(world.host.add(Guest().secrets(("", "k")).answer(value_result("x")).binary()), number))
        below = descendants(world.launcher.pid)
    assert not [pid for pid in (world.launcher.pid, *below) if there(pid)]
    assert list((tmp_path / "run").iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == before

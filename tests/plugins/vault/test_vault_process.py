"""The vault as a real process, over the wire of LOOP plugins."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from innkeeper_confidential_workflows.protocol import OpenedSecret, SecretName
from innkeeper_sdk.capability import CapabilityError, CapabilityInfo, CapabilityType, ErrorCode
from innkeeper_sdk.loop.remote import RemoteCapability
from innkeeper_vault.capability import VAULT_ID
from innkeeper_vault.store import FILE_NAME, STORE_NAME
from tests.plugins.confidential_workflows.protocol.protocol_world import OWNER, new_world
from tests.plugins.vault.vault_world import VaultWorld
from tests.sdk.loop.conftest import RawHost

CANARY = "canary-c90d17"
NAME = SecretName("main", "KEY")
SCRIPT = "from innkeeper_vault.process import main\n\nmain()\n"


class Host:
    """Hosts, one after the other, that start the vault of one directory."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder = folder
        self.sockets = sockets
        clock_now = datetime.now(UTC)
        self.world = VaultWorld(new_world(), folder / "own")
        self.world.world.clock.now = clock_now
        self.raw: RawHost
        self._started = 0

    async def start(self, environment: str = "development") -> None:
        """Start a process, and take its capability for the vault."""
        directory = self.sockets / f"h{self._started}"
        directory.mkdir()
        self._started += 1
        self.raw = RawHost(directory)
        self.raw.registry.peer_id = self.world.world.config.host_key
        await self.raw.run(
            SCRIPT,
            INNKEEPER_PROVIDER="vault",
            INNKEEPER_PROCESS="vault",
            INNKEEPER_ENVIRONMENT=environment,
            INNKEEPER_DATA_DIR=str(self.world.folder),
        )
        info = CapabilityInfo(VAULT_ID, CapabilityType.ACTION)
        self.world.vault = RemoteCapability(self.raw.registry.added[VAULT_ID], info)

    async def refused(self, asked: object) -> CapabilityError:
        """Return how a request is refused."""
        with pytest.raises(CapabilityError) as caught:
            await self.world.release(asked)  # type: ignore[arg-type]  # an Asked
        return caught.value


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    # The paths of sockets must be short, and those of tests need not be.
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as sockets:
        started = Host(tmp_path, Path(sockets))
        started.world.store.set(OWNER, NAME, CANARY)
        yield started
        await started.raw.close()


async def test_a_secret_reaches_the_execution_and_nobody_else(host: Host) -> None:
    await host.start()
    world = host.world
    assert await world.identity() == world.config.vault_key
    asked = world.asked(await world.challenge(), secrets=(NAME,))
    reply = await world.release(asked)
    assert world.opened(asked, reply) == (OpenedSecret(namespace="main", key="KEY", value=CANARY),)
    proc = Path("/proc", str(host.raw.process.pid))
    seen = [(proc / name).read_bytes() for name in ("cmdline", "environ")]
    limits = [line.split() for line in (proc / "limits").read_text().splitlines()]
    assert ["Max", "core", "file", "size", "0", "0", "bytes"] in limits
    assert await host.raw.shut_down() == 0
    seen += [line.encode() for line in host.raw.errors]
    seen += [path.read_bytes() for path in host.folder.rglob("*") if path.is_file()]
    seen.append(reply.SerializeToString())
    assert len(seen) > 7
    assert all(CANARY.encode() not in content for content in seen)
    decisions = [json.loads(line)["@message"] for line in host.raw.errors if '"release ' in line]
    assert [json.loads(text.removeprefix("release "))["code"] for text in decisions] == ["ok"]


async def test_a_restart_keeps_the_secrets_and_opens_no_nonce_again(host: Host) -> None:
    await host.start()
    used = host.world.asked(await host.world.challenge())
    await host.world.release(used)
    unused = host.world.asked(await host.world.challenge())
    host.raw.process.send_signal(signal.SIGKILL)
    await host.raw.wait()
    await host.raw.close()
    await host.start()
    assert "nonce_mismatch" in (await host.refused(used)).message
    refused = await host.refused(unused)
    assert "nonce_mismatch" in refused.message
    assert refused.error_code is ErrorCode.PermissionDenied
    asked = host.world.asked(await host.world.challenge(), secrets=(NAME,))
    (item,) = host.world.opened(asked, await host.world.release(asked))
    assert isinstance(item, OpenedSecret)
    await host.raw.shut_down()


async def test_in_production_a_simulated_enclave_gets_nothing(host: Host) -> None:
    await host.start("production")
    refused = await host.refused(host.world.asked(await host.world.challenge()))
    assert refused.message.startswith("untrusted_chain")


async def test_a_host_that_the_vault_does_not_know_grants_nothing(host: Host) -> None:
    await host.start()
    host.raw.registry.peer_id = b""
    await host.raw.initialise()
    host.world.vault = RemoteCapability(
        host.raw.registry.added[VAULT_ID], CapabilityInfo(VAULT_ID, CapabilityType.ACTION)
    )
    refused = await host.refused(host.world.asked(await host.world.challenge()))
    assert refused.message.startswith("not_authorized")


async def test_a_damaged_vault_does_not_serve_and_says_which_file(host: Host) -> None:
    path = host.world.folder / STORE_NAME / FILE_NAME
    path.write_bytes(b"damaged")
    with pytest.raises(grpc.aio.AioRpcError, match="damaged") as caught:
        await host.start()
    assert str(path) in (caught.value.details() or "")


async def test_the_command_is_installed_beside_the_interpreter() -> None:
    assert Path(sys.executable).with_name("innkeeper-vault").is_file()

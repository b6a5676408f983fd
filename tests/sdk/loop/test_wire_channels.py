"""Options and names of channels and servers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.loop.channels import CHANNEL_OPTIONS, SERVER_OPTIONS, new_server, open_channel, unix_target


def test_the_options_are_those_of_the_wire() -> None:
    assert dict(CHANNEL_OPTIONS) == {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        "grpc.max_metadata_size": 262144,
        "grpc.absolute_max_metadata_size": 262144,
        "grpc.default_authority": "localhost",
        "grpc.enable_retries": 0,
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_http_proxy": 0,
    }
    assert dict(SERVER_OPTIONS)["grpc.max_receive_message_length"] == -1
    assert not any("keepalive" in name for name, _ in (*CHANNEL_OPTIONS, *SERVER_OPTIONS))


def test_107_bytes_are_a_name_and_108_are_not() -> None:
    assert unix_target(Path("/" + "x" * 106)) == "unix:/" + "x" * 106
    with pytest.raises(ConfigError, match=r"at most 107 bytes.*108"):
        unix_target(Path("/" + "x" * 107))
    with pytest.raises(ConfigError, match="too long"):
        unix_target(Path("/" + "ü" * 54))


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="not absolute"):
        unix_target(Path("s"))


@pytest.mark.parametrize("name", ["plain", "with space", "per%20cent", "hash#query?", "ü"])
async def test_whatever_the_path_holds_it_is_the_socket_that_is_meant(tmp_path: Path, name: str) -> None:
    async def size(request: bytes, context: Any) -> bytes:
        return str(len(request)).encode()

    server = new_server()
    handler = grpc.method_handlers_generic_handler("t.T", {"Size": grpc.unary_unary_rpc_method_handler(size)})
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(unix_target(tmp_path / name))
    await server.start()

    async with open_channel(tmp_path / name) as channel:
        # More than gRPC takes by default.
        assert await channel.unary_unary("/t.T/Size")(b"x" * 5_000_000, timeout=10) == b"5000000"
    assert (await asyncio.to_thread((tmp_path / name).is_socket)) is True
    await server.stop(None)

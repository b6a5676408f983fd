"""Requests and answers over a real socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cbor2
import pytest

from innkeeper_confidential_workflows.nsm import ErrorCode, NsmClient, NsmError, SeqpacketTransport, SimulatedNsm


def serve(connection: socket.socket, nsm: SimulatedNsm) -> None:
    """Answer until the other side closes its end."""
    while request := connection.recv(20_000):
        connection.send(nsm.handle(request))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(20)
        yield ours, theirs


@pytest.fixture
def served(bench: Any, pair: tuple[socket.socket, socket.socket]) -> Iterator[socket.socket]:
    ours, theirs = pair
    thread = threading.Thread(target=serve, args=(theirs, bench.nsm))
    thread.start()
    yield ours
    ours.close()
    thread.join(20)
    assert not thread.is_alive()


def test_a_document_comes_over_a_socket(bench: Any, served: socket.socket) -> None:
    client = NsmClient(SeqpacketTransport(served))

    document = client.attest(b"u" * 512, b"n" * 512, b"k" * 1024)

    assert bench.verify(document, user_data=b"u" * 512, nonce=b"n" * 512).public_key == b"k" * 1024


def test_threads_may_share_a_connection(bench: Any, served: socket.socket) -> None:
    client = NsmClient(SeqpacketTransport(served))

    with ThreadPoolExecutor(8) as threads:
        documents = list(threads.map(lambda number: client.attest(nonce=b"%d" % number), range(64)))

    assert [bench.verify(document).nonce for document in documents] == [b"%d" % number for number in range(64)]


def test_a_refusal_comes_over_a_socket(served: socket.socket) -> None:
    with pytest.raises(NsmError) as refused:
        NsmClient(SeqpacketTransport(served)).attest(nonce=b"n" * 513)

    assert refused.value.code is ErrorCode.INPUT_TOO_LARGE


def test_a_packet_that_is_too_long_is_refused_and_the_next_is_answered(served: socket.socket) -> None:
    served.send(b"\0" * 10_000)
    assert cbor2.loads(served.recv(20_000)) == {"Error": "InputTooLarge"}

    served.send(cbor2.dumps("DescribeNSM"))

    assert "DescribeNSM" in cbor2.loads(served.recv(20_000))


def test_an_nsm_that_is_gone_is_an_error_from_then_on(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    client = NsmClient(SeqpacketTransport(ours))

    for _ in range(2):
        with pytest.raises(NsmError) as lost:
            client.attest()
        assert lost.value.code is ErrorCode.INTERNAL_ERROR


def test_an_nsm_that_closes_in_the_middle_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    thread = threading.Thread(target=lambda: (theirs.recv(5000), theirs.close()))
    thread.start()

    with pytest.raises(NsmError, match="closed"):
        NsmClient(SeqpacketTransport(ours)).attest()

    thread.join(20)


def test_a_late_answer_is_never_taken_for_that_of_another_request(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.settimeout(0.01)
    transport = SeqpacketTransport(ours)
    with pytest.raises(NsmError, match="does not answer"):
        transport.exchange(b"first")

    theirs.send(b"answer to the first")

    ours.settimeout(20)
    with pytest.raises(NsmError, match="lost"):
        transport.exchange(b"second")


def test_a_descriptor_that_was_inherited_serves_as_well(bench: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    again = socket.socket(fileno=os.dup(theirs.fileno()))
    thread = threading.Thread(target=serve, args=(again, bench.nsm))
    thread.start()
    theirs.close()

    assert len(NsmClient(SeqpacketTransport(ours)).random(16)) == 16

    ours.close()
    thread.join(20)
    again.close()
    assert not thread.is_alive()

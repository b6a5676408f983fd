"""The root process's loop: orphans that it adopts are killed, and nothing below it outlives it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from innkeeper_wasm.runtime import control

SERVER = """
import os, socket, sys, time
from innkeeper_wasm.runtime import process
from innkeeper_wasm.runtime.forking import ForkServer
process.become_subreaper()
channel = socket.socket(fileno=int(sys.argv[1]))
job = ForkServer(channel, reap_orphans=True, end_with_channel=True).accept()
report = socket.socket(fileno=job.descriptors[0])
for _ in range(20):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
report.send(b"forked")
if job.message["op"] == "die":
    os._exit(0)
time.sleep(60)
"""


@pytest.mark.parametrize("op", ["die", "stay"])
def test_what_a_child_has_forked_does_not_outlive_the_child_or_the_root_process(op: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    held, given = socket.socketpair()
    held.settimeout(10)
    server = subprocess.Popen([sys.executable, "-I", "-c", SERVER, str(theirs.fileno())], pass_fds=(theirs.fileno(),))
    theirs.close()
    try:
        control.send(ours, control.encode(op, id=1), (given.fileno(),))
        given.close()
        assert held.recv(6) == b"forked"
        if op == "stay":
            ours.close()
            assert server.wait(10) == 0
        # Each of them holds the other end: this is the end of the last one.
        assert held.recv(1) == b""
        if op == "die":
            assert server.poll() is None
    finally:
        ours.close()
        server.wait(10)
        held.close()


def test_children_are_found_whatever_the_kernel_offers() -> None:
    script = (
        "import os, time; from innkeeper_wasm.runtime import process; before = process.child_pids(); pid = os.fork()\n"
        "if pid == 0: time.sleep(60)\n"
        "after = process.child_pids(); os.kill(pid, 9); assert (before, after) == ([], [pid]), (before, after, pid)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

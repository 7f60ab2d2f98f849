"""The faults of hosts: each is seen by a connection, or by packets, between two hosts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.network import Host, Network, remove_leftovers

pytestmark = pytest.mark.once

PORT = 5000
CEILING = 60.0


def wait_until(condition, what: str) -> None:
    end = time.monotonic() + CEILING
    while not condition():
        assert time.monotonic() < end, f"Never came: {what}"
        time.sleep(0.02)


def arrived(sender: Host, receiver: Host, *, of: int = 1, at_least: int = 0) -> int:
    """Send this many packets from one host to another one; return the number that arrives.

    Args:
        at_least: packets that have to arrive, for which a busy machine may need its time.
    """
    with receiver.entered():
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender.entered():
        here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with there, here:
        there.bind((receiver.address, PORT))
        for _number in range(of):
            here.sendto(b"one", (receiver.address, PORT))
        there.settimeout(CEILING)
        first = sum(1 for _number in range(at_least) if _received(there))
        there.settimeout(0.3)
        return first + sum(1 for _packet in iter(lambda: _received(there), None))


def _received(one: socket.socket) -> bytes | None:
    try:
        return one.recv(10)
    except TimeoutError:
        return None


class TestAHost:
    def test_reaches_the_other_and_is_reached_from_outside(self, network: Network):
        one, two = network["one"], network["two"]
        with two.entered():
            server = socket.create_server((two.address, PORT))

        with server, one.entered():
            socket.create_connection((two.address, PORT), timeout=CEILING).close()

        assert arrived(two, one, at_least=1) == 1

    def test_leaves_its_thread_where_it_was(self, network: Network):
        before = os.readlink("/proc/thread-self/ns/net")

        with network["one"].entered():
            assert os.readlink("/proc/thread-self/ns/net") != before

        assert os.readlink("/proc/thread-self/ns/net") == before


class TestACutHost:
    def test_neither_sends_nor_receives_until_it_is_mended(self, network: Network):
        one, two = network["one"], network["two"]

        one.cut()
        assert (arrived(one, two), arrived(two, one)) == (0, 0)
        one.mend()

        assert (arrived(one, two, at_least=1), arrived(two, one, at_least=1)) == (1, 1)

    def test_closes_no_connection(self, network: Network):
        one = network["one"]
        with one.entered():
            server = socket.create_server((one.address, PORT))
        client = socket.create_connection((one.address, PORT), timeout=CEILING)
        accepted, _address = server.accept()
        client.settimeout(0.3)

        one.cut()
        client.send(b"lost")
        with pytest.raises(TimeoutError):
            client.recv(1)
        one.mend()

        accepted.settimeout(CEILING)
        assert accepted.recv(10) == b"lost"  # TCP has repeated it
        for each in (accepted, client, server):
            each.close()


class TestAPartition:
    def test_may_be_one_way(self, network: Network):
        one, two = network["one"], network["two"]

        one.cut_to(two)

        assert (arrived(one, two), arrived(two, one, at_least=1)) == (0, 1)

    def test_leaves_the_way_to_others(self, network: Network):
        one = network["one"]
        one.cut_to(network["two"])

        with one.entered():
            server = socket.create_server((one.address, PORT))
        with server:
            socket.create_connection((one.address, PORT), timeout=CEILING).close()


class TestALink:
    def test_that_loses_packets_passes_the_others(self, network: Network):
        one, two = network["one"], network["two"]
        one.lose(50)

        assert 100 < arrived(one, two, of=400, at_least=101) < 300

    def test_that_is_slow_passes_all(self, network: Network):
        one, two = network["one"], network["two"]
        one.slow_down(256)

        assert arrived(two, one, of=20, at_least=20) == 20


class TestAKilledHost:
    def test_has_no_process_and_sends_no_packet(self, network: Network):
        one = network["one"]
        program = f"import socket, time; s = socket.create_server(('', {PORT})); time.sleep(600)"
        process = one.start([sys.executable, "-c", program])
        wait_until(lambda: _accepts(one.address), "it listens")
        client = socket.create_connection((one.address, PORT), timeout=CEILING)
        client.settimeout(0.3)

        one.kill()

        assert process.returncode == -signal.SIGKILL
        with client, pytest.raises(TimeoutError):
            client.recv(1)  # neither its end nor a reset arrives


def _accepts(address: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, PORT)) == 0


class TestANetwork:
    PROGRAM = """
import sys, time
from tests.cluster.network import Network
with Network(["one"]) as network:
    network["one"].start(["sleep", "600"])
    print(network.id, flush=True)
    time.sleep(600)
"""

    def test_is_removed_if_its_process_is_killed(self, network: Network):
        process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert _names(name)

        process.kill()
        process.communicate()

        wait_until(lambda: not _names(name), "its hosts and its bridge are gone")

    def test_is_left_alone_while_its_process_runs(self, network: Network):
        remove_leftovers()

        assert len(_names(network.id)) >= 3


def _names(network: str) -> list[str]:
    found = [
        subprocess.run(["ip", *what], capture_output=True, text=True, check=True).stdout
        for what in (["netns", "list"], ["-o", "link"])
    ]
    own = re.compile(rf"\b{network}(?!\d)")  # another network's number may begin with this one
    return [line for text in found for line in text.splitlines() if own.search(line)]

"""Free ports for servers that start one after the other."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections import deque

import pytest
from django.conf import settings

from shop.up import ports
from shop.up.errors import UpError

#: Another process, for which there is one port.
ANOTHER = """
import sys
from shop.up import ports
from shop.up.errors import UpError
ports._PORTS = [int(sys.argv[1])]
try:
    print(ports.free_port())
except UpError as error:
    print(error)
"""


class TestAFreePort:
    def test_is_never_that_of_an_outgoing_connection(self, monkeypatch):
        """Such a connection may take the port of a server that is stopped for a moment."""
        monkeypatch.setattr(ports, "_given", set())
        with socket.create_server((ports.HOST, 0)) as server:
            clients = [socket.create_connection(server.getsockname()) for _ in range(50)]
            lowest = min(client.getsockname()[1] for client in clients)
            for client in clients:
                client.close()

        assert max(ports.free_port() for _ in range(50)) < lowest

    def test_is_not_in_use(self, monkeypatch):
        with socket.create_server((ports.HOST, 0)) as server:
            used = server.getsockname()[1]
            monkeypatch.setattr(ports, "_PORTS", [used])

            with pytest.raises(UpError, match="is free"):
                ports.free_port()

    def test_is_returned_once_although_it_is_not_open_yet(self, monkeypatch):
        """Of a thousand that the system picks, some are the same."""
        monkeypatch.setattr(ports, "_given", set())
        monkeypatch.setattr(ports, "_reserved", deque())  # it ends the oldest reservations

        given = [ports.free_port() for _ in range(1500)]

        assert len(set(given)) == len(given)

    def test_is_found_in_a_sandbox_without_names_of_sockets(self, monkeypatch):
        def refuse(_: int) -> None:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

        monkeypatch.setattr(ports, "_reserve", refuse)

        assert ports.free_port() in ports._PORTS

    def test_keeps_no_name_of_a_port_that_is_in_use(self, monkeypatch):
        monkeypatch.setattr(ports, "_reserved", deque())
        with socket.create_server((ports.HOST, 0)) as server:
            used = server.getsockname()[1]
            monkeypatch.setattr(ports, "_PORTS", [used])
            with pytest.raises(UpError, match="is free"):
                ports.free_port()

        assert not ports._reserved
        assert ports.free_port() == used

    @pytest.mark.skipif(sys.platform != "linux", reason="Only Linux has abstract names of sockets.")
    def test_is_returned_to_no_other_process_although_it_is_not_open_yet(self):
        port = ports.free_port()

        done = subprocess.run(
            [sys.executable, "-c", ANOTHER, str(port)],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.startswith(f"No port from {port} to {port} is free.")

"""Free ports for servers that start one after the other."""

from __future__ import annotations

import socket

import pytest

from shop.up import ports
from shop.up.errors import UpError


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

        given = [ports.free_port() for _ in range(1500)]

        assert len(set(given)) == len(given)

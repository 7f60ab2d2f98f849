"""Ports for servers that are started one after the other."""

from __future__ import annotations

from shop.up import ports


class TestAFreePort:
    def test_is_given_once_though_nobody_listens_on_it_yet(self, monkeypatch):
        """Of a thousand that the system picks, some are the same."""
        monkeypatch.setattr(ports, "_given", set())

        given = [ports.free_port() for _ in range(1500)]

        assert len(set(given)) == len(given)

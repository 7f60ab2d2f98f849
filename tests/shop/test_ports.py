"""Free ports for servers that start one after the other."""

from __future__ import annotations

from shop.up import ports


class TestAFreePort:
    def test_is_returned_once_although_it_is_not_open_yet(self, monkeypatch):
        """Of a thousand that the system picks, some are the same."""
        monkeypatch.setattr(ports, "_given", set())

        given = [ports.free_port() for _ in range(1500)]

        assert len(set(given)) == len(given)

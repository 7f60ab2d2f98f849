"""A client of several web hosts, which tries the next one after a request without an answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import httpx

from tests.chaos.customers import Client
from tests.chaos.history import Call, History

PATIENCE = 8.0  # seconds; a connection to a lost database alone takes three


class RoamingClient(Client):
    """Sends its requests to one host as long as it answers."""

    def __init__(
        self, urls: Sequence[str], token: str, history: History, *, seed: str, first: int
    ) -> None:
        super().__init__(urls[0], token, history, seed=seed)
        headers = {"Authorization": f"Token {token}", "Host": "localhost"}
        hosts = [
            httpx.Client(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False)
            for url in urls
        ]
        self._hosts = itertools.cycle(hosts[first:] + hosts[:first])
        self._http = next(self._hosts)

    def ask(self, call: Call, path: str) -> Call:
        answered = super().ask(call, path)
        if answered.is_ambiguous:
            self._http = next(self._hosts)
        return answered

    def read_order(self, order_id: str) -> dict[str, Any]:
        found = super().read_order(order_id)
        if not found:
            self._http = next(self._hosts)
        return found

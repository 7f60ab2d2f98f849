"""Customers who place orders without a pause, and the responses that they get."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from itertools import count

#: Customers who order at the same time.
CUSTOMERS = 2
#: Seconds between two orders of a customer, so that a busy machine keeps up.
PAUSE = 0.5


class Customers:
    """Threads that place orders until `stop`.

    Attributes:
        placed: the release whose web server has accepted each order.
        failures: each request that was not answered by 201, with the answer or the error.
    """

    def __init__(self, port: int) -> None:
        self.placed: dict[str, str] = {}
        self.failures: list[str] = []
        self._port = port
        self._numbers = count(1)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for _ in range(CUSTOMERS):
            thread = threading.Thread(target=self._order)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let each customer end its request."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def accepted_by(self) -> Counter[str]:
        """Return how many orders each release has accepted."""
        return Counter(list(self.placed.values()))

    def _order(self) -> None:
        while not self._stopping.wait(PAUSE):
            number = f"order-{next(self._numbers)}"
            try:
                self._place(number)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{number}: {error!r}")

    def _place(self, number: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            connection.request("POST", f"/orders/{number}")
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status == 201:
            self.placed[number] = json.loads(text)["release"]
        else:
            self.failures.append(f"{number}: {response.status} {text[:2000]}")

"""A gentle load of GET requests, at a steady pace, each over a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count, cycle


@dataclass(frozen=True)
class Visit:
    """One request.

    Attributes:
        path: the address.
        ended: `time.monotonic()` of the end of the response.
        seconds: from the time when the request was due to the end of the response.
        body: the response; None if there was none, or its status was not 200.
    """

    path: str
    ended: float
    seconds: float
    body: str | None


@dataclass
class Visits:
    """All requests so far, in order."""

    done: list[Visit] = field(default_factory=list)

    def longest(self, path: str) -> float:
        """Return the seconds of the slowest request of a path."""
        return max(one.seconds for one in list(self.done) if one.path == path)

    def refused(self, path: str) -> int:
        """Return the number of requests of a path without a good response."""
        return sum(one.body is None for one in list(self.done) if one.path == path)

    def first(self, path: str, body: str) -> Visit | None:
        """Return the first request of a path with this response."""
        return next((one for one in list(self.done) if (one.path, one.body) == (path, body)), None)


@contextmanager
def visited(port: int, *paths: str, per_second: float) -> Iterator[Visits]:
    """Request the paths in turn, during the block.

    One waits for the one before. Its time begins when it is due, so this delay counts.
    """
    visits, ends = Visits(), threading.Event()

    def visit_all() -> None:
        began = time.monotonic()
        for number, path in zip(count(), cycle(paths)):
            due = began + number / per_second
            if ends.wait(max(0.0, due - time.monotonic())):
                return
            body = _body(port, path)
            ended = time.monotonic()
            visits.done.append(Visit(path, ended, ended - due, body))

    thread = threading.Thread(target=visit_all)
    thread.start()
    try:
        yield visits
    finally:
        ends.set()
        thread.join()


def _body(port: int, path: str) -> str | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        return body if response.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()

"""Readiness probes of programs."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

from shop.up.ports import HOST
from shop.up.processes import Process


def prints(pattern: str) -> Callable[[Process], bool]:
    """Return a probe: ready once the process has printed a line that matches."""
    return lambda process: process.has_printed(pattern)


def responds(port: int, path: str) -> Callable[[Process], bool]:
    """Return a probe: ready once GET on that path is answered with 200."""
    return lambda _: _get(port, path) == 200


def _get(port: int, path: str) -> int | None:
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()

"""An address at which nobody listens, and where nobody else begins to while the tests run."""

from __future__ import annotations

import socket
from functools import cache

HOST = "127.0.0.1"


def port_of_nobody() -> int:
    """Return a port that refuses every connection, always the same one."""
    return int(_taken().getsockname()[1])


@cache
def _taken() -> socket.socket:
    # A port that is only free may be another test's a moment later; one that is bound is not.
    taken = socket.socket()
    taken.bind((HOST, 0))
    return taken

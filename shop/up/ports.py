"""Ports on loopback."""

from __future__ import annotations

import errno
import random
import socket
import sys
from collections import deque
from itertools import chain

from shop.up.errors import UpError

HOST = "127.0.0.1"


# Below the ports that Linux (from 32768), macOS and Windows (from 49152) give to outgoing
# connections. One of these may take the port of a stopped server, which then cannot start again.
_PORTS = range(15_000, 32_768)
# A port is opened later by its program; until then it may be found again.
_given: set[int] = set()
# Sockets whose names reserve the latest ports, so that no other process gets one before its program
# has opened it. The names end with this process.
_reserved: deque[socket.socket] = deque()
_MOST_RESERVED = 100
# Programs and tests seed the shared generator, so several of them would try the same ports.
_random = random.SystemRandom()


def free_port() -> int:
    """Return a port that is free and was not returned to this process before.

    On Linux, it is not returned to other processes either until it is open.

    Raises:
        UpError: no port from 15000 to 32767 is free.
    """
    start = _random.randrange(len(_PORTS))
    for port in chain(_PORTS[start:], _PORTS[:start]):
        if port not in _given and _take(port):
            _given.add(port)
            return port
    raise UpError(f"No port from {_PORTS[0]} to {_PORTS[-1]} is free. Stop other programs.")


def _take(port: int) -> bool:
    """Return whether a port is free and no other process has taken its name; take its name."""
    try:
        name = _reserve(port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        name = None  # a sandbox without such names: the port may be returned to another process
    if not _is_free(port):
        if name is not None:
            name.close()
        return False
    if name is not None:
        _reserved.append(name)
    if len(_reserved) > _MOST_RESERVED:
        _reserved.popleft().close()
    return True


def _reserve(port: int) -> socket.socket | None:
    """Return a socket with the abstract name of a port. Only one can have it; only Linux has them.

    Raises:
        OSError: the name is taken, or the system has no such names.
    """
    if sys.platform != "linux":
        return None
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        named.bind(f"\0shop-port-{port}")
    except OSError:
        named.close()
        raise
    return named


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def listen(port: int) -> socket.socket:
    """Open the port (0: a free one) for the web server, which inherits it.

    While the web server restarts, its port stays open: requests wait instead of being refused.
    Raises UpError if the port is not available.
    """
    if port and _is_answering(port):
        raise UpError(_taken(port))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except PermissionError:
        raise UpError(f"Port {port} is reserved for root. Choose another with --port.") from None
    except (OSError, OverflowError):
        raise UpError(_taken(port)) from None
    return listener


def _taken(port: int) -> str:
    return (
        f"Port {port} is used by another program. Stop it, or choose another port: "
        'make up ARGS="--port 8001".'
    )


def _is_answering(port: int) -> bool:
    # macOS allows binding 127.0.0.1 although another program listens on all addresses.
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0

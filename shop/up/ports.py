"""Ports on loopback."""

from __future__ import annotations

import socket

from shop.up.errors import UpError

HOST = "127.0.0.1"


# A port is opened later by its program; until then the system may return it again.
_given: set[int] = set()


def free_port() -> int:
    """Return a port that is free and was not returned to this process before."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
        if port in _given:
            return free_port()
    _given.add(port)
    return port


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

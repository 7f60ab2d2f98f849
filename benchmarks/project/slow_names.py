"""The shop's settings, with a name server that takes ten seconds for names in .slow.test."""

import socket
import time
from typing import Any

from shop.settings import *  # noqa: F403  the whole of them, by intention

SECONDS = 10.0

_resolve = socket.getaddrinfo


def _slowly(host: Any, *arguments: Any, **options: Any) -> Any:
    if isinstance(host, str) and host.endswith(".slow.test"):
        time.sleep(SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "The name server did not answer.")
    return _resolve(host, *arguments, **options)


socket.getaddrinfo = _slowly

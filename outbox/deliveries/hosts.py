"""The external host of a failed call, for the text of a breaker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

#: Longest chain of causes to follow.
_MOST_CAUSES = 10


def host_of(error: BaseException) -> str:
    """Return the host that a call could not reach, with its port if it has one; "" if unknown.

    Clients keep it at different places: httpx and requests at `request.url`, urllib3 at `pool`,
    urllib at `url`. Exceptions without one are followed to their causes. Never raises.
    """
    for one in _chain(error):
        for place in ("request.url", "url", "pool"):
            if host := _host(_at(one, place)):
                return host
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _number in range(_MOST_CAUSES):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def _at(error: object, place: str) -> Any:
    found: Any = error
    for name in place.split("."):
        try:
            found = getattr(found, name, None)
        except Exception:  # httpx raises if an error has no request
            return None
    return found


def _host(value: Any) -> str:
    """Return the host of a URL, or of an object with `host` and `port`; never a user or path."""
    try:
        if isinstance(host := getattr(value, "host", None), str) and host:
            port = getattr(value, "port", None)
        else:
            parts = urlsplit(str(value or ""))
            host, port = parts.hostname, parts.port
        return f"{host}:{port}" if host and port else host or ""
    except Exception:  # a text that is no URL
        return ""


def with_host(text: str, error: BaseException) -> str:
    """Return the text with the host in front, unless it is unknown or the text names it."""
    host = host_of(error)
    return f"{host}: {text}" if host and host not in text else text

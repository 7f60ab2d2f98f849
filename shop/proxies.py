"""Trust in forwarding headers, and the address of a request's client.

A request arrives from a peer. If the peer is a trusted proxy, `X-Forwarded-For` names the client.
Each proxy appends the address of its own peer, so the client is the first address from the right
that is not a trusted proxy. The client wrote everything further left. A peer that is not a trusted
proxy is the client, and its forwarding headers are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponseBase

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: In TRUSTED_PROXIES: all peers on a Unix domain socket of the web server.
UNIX = "unix"
#: Stands for such a peer where an address is needed.
UNIX_ADDRESS = "127.0.0.1"

_FOR, _PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"
_FORWARDING = ("HTTP_X_FORWARDED_", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_CLIENT_IP")


class ProxyMiddleware:
    """Put the client's address into REMOTE_ADDR, and drop forwarding headers that are not trusted.

    Of a trusted proxy's headers only the scheme is left, for Django's SECURE_PROXY_SSL_HEADER.

    Raises:
        ImproperlyConfigured: TRUSTED_PROXIES cannot be read.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        trusted_proxies()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Rewrite the request's headers, then call the next middleware."""
        meta = request.META
        peer = str(meta.get("REMOTE_ADDR", ""))
        forwarded = {name: meta.pop(name) for name in list(meta) if name.startswith(_FORWARDING)}
        if settings.BEHIND_PROXY and trusted_proxies().has(peer):
            peer = client_address(peer, forwarded.get(_FOR, ""))
            if proto := forwarded.get(_PROTO, ""):
                meta[_PROTO] = proto.rpartition(",")[2].strip()  # the nearest proxy's value
        meta["REMOTE_ADDR"] = _in_short(peer)
        return self.get_response(request)


class TrustedProxies:
    """The networks of TRUSTED_PROXIES, and whether Unix domain sockets are among them."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Parse the texts; raise ImproperlyConfigured for one that is not a network."""
        self.networks: list[Network] = []
        self.has_unix = False
        for text in texts:
            if (text := text.strip()) == UNIX:
                self.has_unix = True
            else:
                self.networks.append(_network(text))

    def has(self, peer: str) -> bool:
        """Return whether this peer, an address or the name of a Unix domain socket, is trusted."""
        address = parsed(peer)
        if address is None:
            return self.has_unix and peer in ("", "localhost")
        return any(
            address in network for network in self.networks if network.version == address.version
        )


def trusted_proxies() -> TrustedProxies:
    """Return the proxies in TRUSTED_PROXIES; raise ImproperlyConfigured if it cannot be parsed."""
    return _trusted_proxies(tuple(settings.TRUSTED_PROXIES))


def client_address(peer: str, forwarded_for: str) -> str:
    """Return the client of a trusted peer: the first address from the right that is not trusted.

    Without such an address, return the leftmost one that can be parsed, or the peer itself.
    """
    client = peer
    for address in _from_the_right(forwarded_for):
        if address is None:
            break
        client = str(address)
        if not trusted_proxies().has(client):
            break
    return client


def parsed(text: str) -> Address | None:
    """Return the address in `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1` or `[2001:db8::1]:5`."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket for both families shows an IPv4 peer as ::ffff:192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address


def _from_the_right(forwarded_for: str) -> Iterator[Address | None]:
    if forwarded_for:
        yield from (parsed(text) for text in reversed(forwarded_for.split(",")))


def _in_short(peer: str) -> str:
    address = parsed(peer)
    return UNIX_ADDRESS if address is None else str(address)


@lru_cache(maxsize=8)
def _trusted_proxies(texts: tuple[str, ...]) -> TrustedProxies:
    return TrustedProxies(texts)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"TRUSTED_PROXIES has {text!r}, which is no address and no network ({error}). Write "
            f"addresses, networks such as 10.0.0.0/8, or {UNIX}, separated by commas."
        ) from error

"""Checks of a webhook's URL: a customer chooses it, and it must not reach our own network.

`require_allowed` checks the URL alone, so a web request may call it. `resolve` also looks up the
name, which may take seconds: only workers call it, before each request. Every address of a host
must be public, and the connection is made to one of these addresses. A different answer of the
name server later has no effect.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

Address = IPv4Address | IPv6Address

#: Ports that are allowed for receivers on the internet.
PORTS = (443, 8443)
LONGEST_URL = 500
#: Domains that no name server of the internet knows (RFC 6761, 6762, 7686, 8375; ICANN: internal).
NOT_OF_THE_INTERNET = ("localhost", "local", "internal", "invalid", "test", "onion", "arpa")

# `is_global` differs between releases of Python, takes multicast for global, and does not know
# that 168.63.129.16 is internal to every machine at Azure.
_NEVER = [
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        "168.63.129.16/32",
        # IPv6: all but unicast addresses of the internet, and all that embed an IPv4 address.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
_INTERNET_V6 = ip_network("2000::/3")
# The well-known prefix by which a network without IPv4 reaches IPv4 hosts (RFC 6052).
_NAT64 = ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """The URL leads, or may lead, to an address that is not allowed; the text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parsed URL and its checked addresses. The URL is not parsed again."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]


def private_hosts() -> set[str]:
    """Return the private hosts that are allowed, also by http and at any port."""
    return {host.lower() for host in getattr(settings, "WEBHOOK_PRIVATE_HOSTS", ())}


def host_of(url: str) -> str:
    """Return the host of an allowed URL, the same for each notation of it.

    Raises:
        AddressRefused: the URL is not allowed.
    """
    _scheme, host, _port = _parsed(url)
    return str(_literal(host) or host.rstrip("."))


def require_allowed(url: str) -> None:
    """Check the URL without a name server, including an IP address in it.

    Raises:
        AddressRefused: the URL is not allowed.
    """
    _parsed(url)


def resolve(url: str, *, seconds: float) -> Target:
    """Resolve the URL and check every address. Wait for a name server if the host is a name.

    Raises:
        AddressRefused: the URL is not allowed.
        OSError: the name cannot be resolved within so many seconds.
    """
    scheme, host, port = _parsed(url)
    literal = _literal(host)
    addresses = (str(literal),) if literal is not None else _lookup(host, port, seconds=seconds)
    if host not in private_hosts() and not all(is_public(ip_address(one)) for one in addresses):
        # The text does not name the address: that would reveal our network.
        raise AddressRefused(_("The host has an address that is not public."))
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=scheme, host=host, port=port, path=path, addresses=addresses)


def is_public(address: Address) -> bool:
    """Return whether this is an address of one machine on the internet."""
    if isinstance(address, IPv6Address):
        if address.scope_id:
            return False
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _INTERNET_V6:
            return False
    return address.is_global and not any(
        address in network for network in _NEVER if network.version == address.version
    )


def _parsed(url: str) -> tuple[str, str, int]:
    if (
        len(url) > LONGEST_URL
        or not url.isascii()
        or not url.isprintable()
        or set(url) & set(" \\")
    ):
        raise AddressRefused(
            _("The URL must be ASCII without spaces, and have at most 500 characters.")
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise AddressRefused(_("This is not a valid URL.")) from None
    if not host or "@" in parts.netloc or "#" in url or "%" in host:
        raise AddressRefused(_("The URL must have a host, and no user or fragment."))
    if host in private_hosts() and parts.scheme in ("http", "https"):
        return (
            parts.scheme,
            host,
            {"http": 80, "https": 443}[parts.scheme] if port is None else port,
        )
    if parts.scheme != "https":
        raise AddressRefused(_("The URL must begin with https://."))
    if (443 if port is None else port) not in PORTS:
        ports = ", ".join(map(str, PORTS))
        raise AddressRefused(_("The port must be one of %(ports)s.") % {"ports": ports})
    _require_public(host)
    return parts.scheme, host, port or 443


def _require_public(host: str) -> None:
    address = _literal(host)
    if address is not None and not is_public(address):
        raise AddressRefused(_("The address is not public."))
    labels = host.rstrip(".").split(".")
    if address is None and (len(labels) < 2 or labels[-1] in NOT_OF_THE_INTERNET):
        raise AddressRefused(_("The host is not on the internet."))


def _literal(host: str) -> Address | None:
    """Return the address that a host denotes, in any notation that resolvers accept."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return None


def _lookup(host: str, port: int, *, seconds: float) -> tuple[str, ...]:
    """Ask the system's resolver in a thread, which is abandoned at the time limit."""
    found: list[tuple[str, ...]] = []
    errors: list[OSError] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append(tuple(dict.fromkeys(str(row[4][0]) for row in rows)))
        except (OSError, UnicodeError) as error:
            errors.append(OSError(f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=ask, daemon=True, name="webhooks-lookup")
    thread.start()
    thread.join(seconds)
    if found and found[0]:
        return found[0]
    raise OSError(_("The host's name cannot be resolved.")) from next(iter(errors), None)

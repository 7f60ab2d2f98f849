"""The address by which requests of one client are counted: for throttles, tokens and passwords.

The project puts the client's address into REMOTE_ADDR before any view. Behind a proxy it knows
which headers to trust. This module reads only REMOTE_ADDR, and no header.
"""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address

from django.http import HttpRequest
from rest_framework.request import Request

#: One customer of a provider has a network of this size, and can use each address in it.
IPV6_PREFIX = 64


def counted_address(request: HttpRequest | Request) -> str:
    """Return the client's IPv4 address, or the first address of its IPv6 network (/64)."""
    text = str(request.META.get("REMOTE_ADDR", ""))
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if address.version == 4:
        return str(address)
    return str(IPv6Network((address, IPV6_PREFIX), strict=False).network_address)

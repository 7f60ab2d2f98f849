"""The origin of links in e-mails: the scheme and host with which they begin."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port


def site_origin(request: HttpRequest) -> str:
    """Return SITE_ORIGIN, or the scheme and the host name of the request without its port.

    A client chooses the port of its Host header. ALLOWED_HOSTS checks the name only.
    """
    if settings.SITE_ORIGIN:
        return str(settings.SITE_ORIGIN)
    name, _port = split_domain_port(request.get_host())
    return f"{request.scheme}://{name}"

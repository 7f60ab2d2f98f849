"""Django REST framework's throttles, with the same client address for all of them."""

from __future__ import annotations

from rest_framework import throttling
from rest_framework.request import Request

from .addresses import counted_address


class _ByAddress:
    def get_ident(self, request: Request) -> str:
        """Return the key by which anonymous requests are counted."""
        return counted_address(request)


class UserRateThrottle(_ByAddress, throttling.UserRateThrottle):
    """Requests of one user."""


class AnonRateThrottle(_ByAddress, throttling.AnonRateThrottle):
    """Requests without a user, from one address."""

"""Limit on the requests of one user after which a host is looked up."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView


class LookupThrottle(UserRateThrottle):
    """Counts the requests that may contain a URL, and those for a test message.

    A worker looks up the host afterwards, for up to `LOOKUP_SECONDS`.
    """

    scope = "webhook_lookups"

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return whether one more request is allowed. Other requests are not counted."""
        return request.method not in ("POST", "PATCH") or super().allow_request(request, view)

"""How many URLs of webhooks one user may have checked."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView


class LookUps(UserRateThrottle):
    """Counts the requests that may bring a URL.

    A worker looks its host up afterwards, which may take as long as `LOOKUP_SECONDS`.
    """

    scope = "webhook_lookups"

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Tell whether there is room for one more; other requests are not counted."""
        return request.method not in ("POST", "PATCH") or super().allow_request(request, view)

"""How often one user may have us look up the host of a webhook."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView


class LookUps(UserRateThrottle):
    """Counts the requests that may bring a URL.

    The look-up of a name may take as long as `LOOKUP_SECONDS`, and a thread of the web server waits
    for it: some requests of a few bytes would otherwise keep all of them busy.
    """

    scope = "webhook_lookups"

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Tell whether there is room for one more; other requests are not counted."""
        return request.method not in ("POST", "PATCH") or super().allow_request(request, view)

"""Limits on forms that anybody may send. Each web process counts for itself."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from api import counted_address


class _ByAddress(SimpleRateThrottle):
    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        """Return the key of the count of the client's address, as the API counts it."""
        return f"{self.scope}_{counted_address(request)}"


class SignUpThrottle(_ByAddress):
    """Limit on forms of new accounts from one address, also on wrong ones."""

    scope = "sign_up"
    rate = "30/hour"


class PasswordResetThrottle(_ByAddress):
    """Limit on requests for a new password from one address."""

    scope = "password_reset"
    rate = "10/hour"


class _ByUser(SimpleRateThrottle):
    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        """Return the key of the count of the user."""
        return f"{self.scope}_{request.user.pk}"


class PasswordChangeThrottle(_ByUser):
    """Limit on guesses of the present password in one account."""

    scope = "password_change"
    rate = "10/hour"


class VerificationThrottle(_ByUser):
    """Limit on requests for a link to the address of one account."""

    scope = "verification"
    rate = "5/hour"


def wait_of(throttle: type[SimpleRateThrottle], request: HttpRequest) -> float | None:
    """Count a request. Return the seconds to wait if there were too many, else None."""
    counting = throttle()
    if counting.allow_request(request, None):  # type: ignore[arg-type]  # it reads META and user
        return None
    return counting.wait() or 1.0

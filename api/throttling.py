"""Throttles that identify a client by its address, and the limit on wrong tokens.

After too many wrong tokens, an address gets 429 for each further one. A right token works from any
address, so one broken client does not lock out its neighbours behind the same address. The limit is
no protection against guessing, which 160 random bits make hopeless. It shows a client with a
revoked token that it should stop. All web processes count in the database.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from rest_framework import throttling
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from .addresses import counted_address

if TYPE_CHECKING:
    from rest_framework.views import APIView


class _ByAddress:
    def get_ident(self, request: Request) -> str:
        """Return the key by which anonymous requests are counted."""
        return counted_address(request)


class UserRateThrottle(_ByAddress, throttling.UserRateThrottle):
    """Limit on the requests of one user."""


class AnonRateThrottle(_ByAddress, throttling.AnonRateThrottle):
    """Limit on requests without a user, from one address."""


class WrongTokenThrottle(throttling.SimpleRateThrottle):
    """Counts the wrong tokens of an address within the period of its rate."""

    scope = "wrong_tokens"
    num_requests: int
    duration: int

    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        """Return the address, the key of the count."""
        return counted_address(request)

    def count(self, request: Request) -> None:
        """Count one more wrong token; raise Throttled if there were too many before."""
        from .models import WrongToken  # models load after this module

        address, now = self.get_cache_key(request, None), timezone.now()
        recent = WrongToken.objects.filter(
            address=address, at__gt=now - timedelta(seconds=self.duration)
        ).order_by("-at")
        times = list(recent.values_list("at", flat=True)[: self.num_requests])
        if len(times) >= self.num_requests:
            raise Throttled(wait=self.duration - (now - times[-1]).total_seconds())
        WrongToken.objects.create(address=address)


def delete_old_wrong_tokens() -> None:
    """Delete the wrong tokens that no longer count."""
    from .models import WrongToken  # models load after this module

    old = timezone.now() - timedelta(seconds=WrongTokenThrottle().duration)
    WrongToken.objects.filter(at__lt=old).delete()

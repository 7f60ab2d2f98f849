"""A limit on wrong tokens: an address that sent too many is answered 429 for each further one.

A right token works from any address, so that one broken client does not lock out its neighbours
behind the same address. Guessing is hopeless without this limit: a token has 160 random bits. It
shows a client whose token was revoked that it should stop. Each web process counts for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from .addresses import counted_address

if TYPE_CHECKING:
    from rest_framework.views import APIView


class WrongTokens(SimpleRateThrottle):
    """Remembers when an address sent its latest wrong tokens."""

    scope = "wrong_tokens"
    num_requests: int
    duration: int

    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        """Count by address."""
        return self.cache_format % {"scope": self.scope, "ident": counted_address(request)}

    def count(self, request: Request) -> None:
        """Count one more wrong token; raise Throttled if there were too many before."""
        key = self.get_cache_key(request, None)
        known: list[float] = self.cache.get(key, [])
        self.now = self.timer()
        self.history = [moment for moment in known if moment > self.now - self.duration]
        if len(self.history) >= self.num_requests:
            raise Throttled(wait=self.wait())
        self.cache.set(key, [self.now, *self.history], self.duration)

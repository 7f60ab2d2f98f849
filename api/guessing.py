"""Who guesses tokens waits: an address that sent too many wrong ones is not looked at for a while.

Guessing a token of ours is hopeless anyway; this spares the database the look-ups, and shows a
client whose token was revoked that it should stop. Each web process counts for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView


def address_of(request: HttpRequest | Request) -> str:
    """Return the client's address: what `NUM_PROXIES` proxies of ours say, and nobody else."""
    return BaseThrottle().get_ident(request)  # type: ignore[arg-type]  # it reads META alone


class WrongTokens(SimpleRateThrottle):
    """Remembers when an address sent its latest wrong tokens."""

    scope = "wrong_tokens"
    num_requests: int
    duration: int

    def get_cache_key(self, request: Request, view: APIView | None) -> str:
        """Count by address."""
        return self.cache_format % {"scope": self.scope, "ident": address_of(request)}

    def refuse_if_too_many(self, request: Request) -> None:
        """Raise Throttled while the address has sent too many."""
        self.now, self.history = self.timer(), self._recent(request)
        if len(self.history) >= self.num_requests:
            raise Throttled(wait=self.wait())

    def remember(self, request: Request) -> None:
        """Count one more."""
        moments = [self.timer(), *self._recent(request)]
        self.cache.set(self.get_cache_key(request, None), moments, self.duration)

    def _recent(self, request: Request) -> list[float]:
        known: list[float] = self.cache.get(self.get_cache_key(request, None), [])
        return [moment for moment in known if moment > self.timer() - self.duration]

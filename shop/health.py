"""Three addresses for monitoring: `/livez` and `/readyz` of the process, `/metrics` of the system.

A middleware answers them before everything else, since a probe knows no host name, uses no HTTPS
and has no session.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse

from shop.metrics import answer


class HealthMiddleware:
    """Answer `/livez` (this process runs), `/readyz` (it can do its work) and `/metrics`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return _answer("")
        if request.path == "/readyz":
            return _answer(_why_not_ready())
        if request.path == "/metrics" and settings.OUTBOX.get("METRICS_TOKEN"):
            return answer(request)
        return self.get_response(request)


def _answer(trouble: str) -> HttpResponse:
    response = HttpResponse(
        f"{trouble or 'ok'}\n", status=503 if trouble else 200, content_type="text/plain"
    )
    response["Cache-Control"] = "no-store"
    response["Content-Length"] = str(len(response.content))  # without it the connection is closed
    return response


def _why_not_ready() -> str:
    """Return one sentence about the problem, or ""; never a secret or an address."""
    try:
        missing = _known_migrations() - set(MigrationRecorder(connection).applied_migrations())
    except DatabaseError:
        return "The database does not answer."
    return f"Migrations not applied: {len(missing)}. Run manage.py migrate." if missing else ""


@functools.cache
def _known_migrations() -> frozenset[tuple[str, str]]:
    """Return the migrations that this process's code expects. Cached, as probes are frequent."""
    return frozenset(MigrationLoader(None).graph.nodes)

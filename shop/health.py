"""Two addresses for whoever watches the process: `/livez` and `/readyz`.

They stand in a middleware, before everything else, since a probe knows no host name, speaks no
HTTPS and has no session.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse


class HealthMiddleware:
    """Answer `/livez` (this process runs) and `/readyz` (it can do its work)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/livez":
            return _answer("")
        if request.path == "/readyz":
            return _answer(_why_not_ready())
        return self.get_response(request)


def _answer(trouble: str) -> HttpResponse:
    response = HttpResponse(
        f"{trouble or 'ok'}\n", status=503 if trouble else 200, content_type="text/plain"
    )
    response["Cache-Control"] = "no-store"
    return response


def _why_not_ready() -> str:
    """Return one sentence on what is missing, or nothing; never a secret or an address."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return "The database does not answer."
    return f"{len(missing)} migrations are not applied." if missing else ""

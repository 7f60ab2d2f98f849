"""`/metrics`: the families in Prometheus's format, protected by a token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare

from outbox import databases
from outbox.conf import conf
from outbox.counting import counters

from .each_database import Source, families, of_each
from .families import Family, of_queues_alone


@databases.outside_of_transactions
def metrics(request: HttpRequest, *, more: Source | None = None) -> HttpResponse:
    """Return the outbox's metrics, and those of `more`.

    The request must have the header `Authorization: Bearer <OUTBOX["METRICS_TOKEN"]>` (else 401).
    Without that setting the page does not exist (404). Add the view to your urls. Or call it in a
    middleware before those that require a host name and HTTPS, which a scraper in your network may
    not use. `?name[]=outbox_workers_wanted` returns only that metric; repeat it for several.

    With several databases, `more` runs in a thread, as the queries of each database do. So one that
    does not answer delays the page by some seconds only.
    """
    token = conf().METRICS_TOKEN
    if not token:
        raise Http404
    if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {token}"):
        return _refused()
    only = {name.removesuffix("_total") for name in request.GET.getlist("name[]")}
    return _encoded(_found(only, more), accept=request.headers.get("Accept", ""))


def _found(only: set[str], more: Source | None) -> list[Family]:
    """Return the families with these names; all without a name."""
    are_of_queues = of_queues_alone(only)
    if len(databases.listed()) > 1:
        return of_each(only, more=None if are_of_queues else more)
    if not are_of_queues:
        counters.flush()
    found = families(only=only)
    if more is None or (only and only <= {one.name for one in found}):
        return found
    return [*found, *(one for one in more() if not only or one.name in only)]


def _refused() -> HttpResponse:
    response = HttpResponse(
        "The token is missing or wrong: send Authorization: Bearer <METRICS_TOKEN>.\n",
        status=401,
        content_type="text/plain",
    )
    response["WWW-Authenticate"] = 'Bearer realm="metrics"'
    response["Cache-Control"] = "no-store"
    return response


def _encoded(found: Iterable[Family], *, accept: str) -> HttpResponse:
    from prometheus_client import CollectorRegistry  # an optional dependency
    from prometheus_client.exposition import choose_encoder

    class Collector:
        def collect(self) -> Iterator[Any]:
            return (_as_prometheus(family) for family in found)

    registry = CollectorRegistry()
    registry.register(Collector())
    encode, content_type = choose_encoder(accept)
    return HttpResponse(
        encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"}
    )


def _as_prometheus(family: Family) -> Any:
    from prometheus_client import core

    kinds: dict[str, Any] = {
        "gauge": core.GaugeMetricFamily,
        "counter": core.CounterMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }
    made = kinds[family.kind](family.name, family.help, labels=family.labels)
    for labels, value in family.samples:
        made.add_metric(labels, value)
    for labels, buckets, total in family.buckets:
        made.add_metric(labels, buckets, total)
    return made

"""Metrics for Prometheus. A Grafana board and alert rules for them are in `docs/monitoring/`.

Gauges are read from the database at each scrape. All processes add up counters in the database
(`outbox/counting/counters.py`). So any process answers for all processes on all machines.
`prometheus_client` is imported only for a scrape.
"""

from __future__ import annotations

from .each_database import families
from .families import Family
from .page import metrics

__all__ = ["Family", "families", "metrics"]

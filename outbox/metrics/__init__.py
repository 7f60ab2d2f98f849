"""What monitors read: numbers for Prometheus, and the board and rules that go with them.

Gauges are read from the database when they are asked for; counters are added up there by all
processes (`outbox/counting/counters.py`). So any process answers for all, on however many machines.
`prometheus_client` is imported only where somebody asks.
"""

from __future__ import annotations

from .families import Family, families
from .page import metrics

__all__ = ["Family", "families", "metrics"]

from __future__ import annotations

import os
from uuid import UUID

from benchmarks.project.sales.services import record
from outbox import subscribe

from .events import Line


def record_effect(order_id: UUID, lines: list[Line]) -> None:
    if "BENCHMARK_NOTHING" not in os.environ:
        record(order_id, (line["quantity"] for line in lines))


# A benchmark of sinks has no handler beside the sink.
if "BENCHMARK_SINK_ONLY" not in os.environ:
    subscribe("ours.OrderPlaced", inline="BENCHMARK_INLINE" in os.environ)(record_effect)

from __future__ import annotations

import os
from uuid import UUID

from benchmarks.project.sales.services import record
from outbox import subscribe

from .events import Line


@subscribe("ours.OrderPlaced", inline="BENCHMARK_INLINE" in os.environ)
def record_effect(order_id: UUID, lines: list[Line]) -> None:
    record(order_id, (line["quantity"] for line in lines))

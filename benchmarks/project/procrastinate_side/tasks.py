from __future__ import annotations

from procrastinate.contrib.django import app

from benchmarks.project.payload import Payload
from benchmarks.project.sales.services import record


@app.task
def record_effect(payload: Payload) -> None:
    record(payload["order_id"], (line["quantity"] for line in payload["lines"]))

from __future__ import annotations

from benchmarks.project.payload import Payload
from benchmarks.project.sales.services import record

from .celery import app


@app.task
def record_effect(payload: Payload) -> None:
    record(payload["order_id"], (line["quantity"] for line in payload["lines"]))

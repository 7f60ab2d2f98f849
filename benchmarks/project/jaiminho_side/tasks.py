from __future__ import annotations

from celery import shared_task

from benchmarks.project.payload import Payload
from benchmarks.project.sales.services import record


@shared_task
def record_effect(payload: Payload) -> None:
    record(payload["order_id"], (line["quantity"] for line in payload["lines"]))

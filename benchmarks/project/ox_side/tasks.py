from __future__ import annotations

from django_tasks import task

from benchmarks.project.payload import Payload
from benchmarks.project.sales.services import record


@task
def record_effect(payload: Payload) -> None:
    record(payload["order_id"], (line["quantity"] for line in payload["lines"]))

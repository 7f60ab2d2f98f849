from __future__ import annotations

from django_domain_events import fire

from benchmarks.project.payload import Payload

from .events import Line, OrderPlaced


def publish(payload: Payload) -> None:
    """Store the event and a row for its receiver."""
    fire(
        OrderPlaced(
            order_id=payload["order_id"],
            customer=payload["customer"],
            currency=payload["currency"],
            total=payload["total"],
            note=payload["note"],
            lines=[Line(**line) for line in payload["lines"]],
        )
    )

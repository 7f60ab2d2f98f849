"""Sources: they store the messages of an external system as events.

    class InvoicePaid(ExternalEvent, source="billing", type="com.example.invoice.paid",
                      key="order_id"):                  # events.py of the app that needs it
        order_id: UUID
        amount: Decimal

    @subscribe("billing.InvoicePaid")                   # an ordinary handler
    def settle_invoice(order_id: UUID, amount: Decimal) -> None: ...

`OUTBOX["SOURCES"]` configures them, and `manage.py outbox receive` runs them. This module imports
no models and no client library.
"""

from __future__ import annotations

from .base import ExternalMessage, NotReadable, ReceivedMessage, Source, SourceUnavailable
from .events import ExternalEvent

__all__ = [
    "ExternalEvent",
    "ExternalMessage",
    "NotReadable",
    "ReceivedMessage",
    "Source",
    "SourceUnavailable",
]

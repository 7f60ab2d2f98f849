"""External events, messages and sources of these tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from pytest_django import Settings

from outbox import Sensitive
from outbox.sources import ExternalEvent, ReceivedMessage
from outbox.sources.base import Source
from outbox.sources.configuration import SourceConfig, configured

PAID = "com.example.invoice.paid"
ORDER = UUID("0190a6c0-0000-7000-8000-000000000001")


class NoSource(Source):
    """A source that receives nothing, for tests of what follows the receipt."""

    def receive(self, max_messages: int, *, timeout: float) -> Sequence[ReceivedMessage]:
        return []

    def acknowledge(self, messages: Sequence[ReceivedMessage]) -> None:
        raise NotImplementedError

    def release(self, messages: Sequence[ReceivedMessage]) -> None:
        raise NotImplementedError

    def lag(self) -> int | None:
        return None

    def check(self, *, timeout: float) -> Sequence[str]:
        return []


def declare_invoice_paid() -> type[ExternalEvent]:
    """Declare the event `billing.InvoicePaid`. The fixture `own_registry` removes it."""

    class InvoicePaid(ExternalEvent, source="billing", type=PAID, key="order_id"):
        """An invoice was paid."""

        order_id: UUID
        amount: Decimal
        payer: Sensitive[str] = ""

    return InvoicePaid


def configure(settings: Settings, **more: Any) -> SourceConfig:
    """Configure the source `billing`; return its configuration."""
    given = {
        "BACKEND": "tests.outbox.sources.messages.NoSource",
        "TOPICS": ["invoices"],
        "GROUP": "tests",
        **more,
    }
    settings.OUTBOX = {**settings.OUTBOX, "NUDGE": False, "SOURCES": {"billing": given}}
    return configured()["billing"]


def cloudevent(number: int = 1, /, *, data: Any = None, **attributes: Any) -> dict[str, Any]:
    """Return a CloudEvent in structured encoding."""
    return {
        "specversion": "1.0",
        "id": f"id-{number}",
        "source": "/billing",
        "type": PAID,
        "data": {"order_id": str(ORDER), "amount": "12.50"} if data is None else data,
        **attributes,
    }


def message(
    number: int = 1, /, *, body: bytes | None = None, headers: Any = None, **attributes: Any
) -> ReceivedMessage:
    """Return a received message with this CloudEvent, or with this body."""
    return ReceivedMessage(
        position=f"invoices/0/{number}",
        topic="invoices",
        headers=headers or {},
        body=json.dumps(cloudevent(number, **attributes)).encode() if body is None else body,
        handle=number,
    )


def new_order() -> dict[str, str]:
    """Return the data of a message about another order."""
    return {"order_id": str(uuid4()), "amount": "1"}

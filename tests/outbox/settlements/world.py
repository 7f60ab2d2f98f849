"""A sink with a consumer, and a source that settles, for tests of both sides in one database."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import F
from pytest_django import Settings

from outbox.models import Event, Settlement, SettlementReport
from outbox.settlements.events import SETTLED_TYPE
from outbox.sinks.configuration import configured, sink_of
from outbox.sinks.publishing import register_sinks
from outbox.sources import ReceivedMessage
from outbox.sources import configuration as sources
from outbox.sources.configuration import SourceConfig
from outbox.sources.storing import store
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass
from tests.outbox.sinks.memory import MemorySink

EVENT = "shops.Ordered"


def configure_sinks(settings: Settings, **sinks: dict[str, Any]) -> None:
    """Configure sinks that keep their messages in memory, and the source "billing"."""
    given = {
        name: {"BACKEND": "tests.outbox.sinks.memory.MemorySink", "SENSITIVE": True, **keys}
        for name, keys in sinks.items()
    }
    settings.OUTBOX = {
        **settings.OUTBOX,
        "NUDGE": False,
        "SINKS": given,
        "SOURCE": "/tests",
        "SOURCES": {"billing": source_entry()},
    }
    register_sinks()


def source_entry(**more: Any) -> dict[str, Any]:
    return {
        "BACKEND": "tests.outbox.sources.messages.NoSource",
        "TOPICS": ["answers"],
        "GROUP": "tests",
        **more,
    }


def memory_sink(name: str = "log") -> MemorySink:
    found = sink_of(configured()[name])
    assert isinstance(found, MemorySink)
    return found


def source() -> SourceConfig:
    return sources.configured()["billing"]


def emit_order(key: str = "") -> UUID:
    """Emit an event for the sinks; return its id."""
    found: Event = Outbox().given(EVENT, key=key or str(uuid4()))
    return found.id


def publish() -> None:
    """Run passes of the relay, and the messages of each, until there are none."""
    while messages := run_pass():
        run_messages(messages)


def report(event: object, consumer: str = "billing", *, id: str = "") -> dict[str, int]:
    """Store the report of a consumer, as its source does; return the counts."""
    return dict(store(source(), [report_message(event, consumer, id=id)]))


def report_message(
    event: object, consumer: str = "billing", *, id: str = "", data: Any = None
) -> ReceivedMessage:
    body = {
        "specversion": "1.0",
        "id": id or str(uuid4()),
        "source": "/billing",
        "type": SETTLED_TYPE,
        "data": {"event": str(event), "consumer": consumer} if data is None else data,
    }
    return ReceivedMessage(
        position=f"answers/0/{body['id']}", topic="answers", body=json.dumps(body).encode()
    )


def let_deadlines_pass(seconds: float = 86400) -> None:
    Settlement.objects.update(due_at=F("due_at") - timedelta(seconds=seconds))


def owe_settlements() -> None:
    """Let billing owe one settlement in time, one late, and one whose delivery is dead."""
    dead = emit_order()
    publish()
    Settlement.objects.filter(event=dead).update(most_replays=0)
    emit_order()
    publish()
    let_deadlines_pass()
    publish()
    emit_order()
    publish()


def make_reports_due() -> None:
    SettlementReport.objects.update(check_at=F("check_at") - timedelta(days=1))


def settlements() -> list[tuple[str, str]]:
    """Return consumer and state of each settlement, in order of the events."""
    rows = Settlement.objects.order_by("delivery__event", "consumer")
    return list(rows.values_list("consumer", "state"))

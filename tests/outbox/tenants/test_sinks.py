"""A sink publishes events of all tenants in one call, and its mapper runs within each tenant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import transaction
from pytest_django import Settings

from outbox import DomainEvent, emit
from outbox.sinks import configuration
from outbox.sinks.configuration import configured, sink_of
from outbox.sinks.publishing import register_sinks
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass, states
from tests.outbox.sinks.memory import MemorySink

from . import hooks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "sink"),
]


class Moved(DomainEvent, key="box"):
    box: str


@pytest.fixture
def sink(own_registry: None, tenants: None, settings: Settings) -> Iterator[None]:
    entry = {
        "BACKEND": "tests.outbox.sinks.memory.MemorySink",
        "EVENTS": ["*"],
        "FORMAT": "tests.outbox.sinks.mappers.as_tenant",
    }
    settings.OUTBOX = {**settings.OUTBOX, "SOURCE": "/boxes", "SINKS": {"analytics": entry}}
    register_sinks()
    yield
    configuration.close_sinks()


class TestASink:
    def test_maps_each_event_within_its_tenant_in_one_message(self):
        Outbox()
        for number, tenant in enumerate(("acme", "bolt", None)):
            with hooks.restore(tenant), transaction.atomic():
                emit(Moved(box=str(number)))
        messages = run_pass()
        with hooks.restore("of the thread"):
            run_messages(messages)

        sink = sink_of(configured()["analytics"])
        assert isinstance(sink, MemorySink)
        bodies = [one.body for one in sink.messages]
        assert [len(one.pairs) for one in messages] == [3]
        assert bodies == [b"acme acme", b"bolt bolt", b"None None"]
        assert states() == ["done"] * 3

"""Publish the events of a test by the sink "audit", from the emission to the acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from outbox.models import Delivery
from outbox.sinks import configuration
from outbox.sinks.publishing import register_sinks
from outbox.testing import Outbox
from tests.outbox.drive import expire_leases_and_backoffs, run_messages, run_pass


@pytest.fixture
def with_sink(settings: Settings) -> Iterator[Callable[..., None]]:
    def use(**sink: Any) -> None:
        sink = {"EVENTS": ["shops.*"], "SENSITIVE": True, **sink}
        settings.OUTBOX = {**settings.OUTBOX, "SINKS": {"audit": sink}, "SOURCE": "/tests"}
        register_sinks()

    yield use
    configuration.close_sinks()


def emit(number: int, *, key: str) -> None:
    outbox = Outbox()
    for position in range(number):
        outbox.given("shops.Ordered", key=key, number=position)


def publish_all() -> None:
    while messages := run_pass():
        run_messages(messages)
        expire_leases_and_backoffs()


def stored_ids() -> list[str]:
    found = Delivery.objects.order_by("event_id")  # the event's position
    return [str(one) for one in found.values_list("event__id", flat=True)]

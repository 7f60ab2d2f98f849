"""The settings and the consumers of the pages about sinks work as printed, against real servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from django.utils.module_loading import import_string

from outbox.sinks.base import Sink
from outbox.sinks.signatures import new_secret
from shop.up.ports import free_port
from tests.docs.pages import Page
from tests.outbox.sinks.messages import message, publish
from tests.processes import Running, eventually
from tests.servers.brokers import RabbitMQServer, ValkeyServer
from tests.servers.kafka import KafkaServer
from tests.servers.server import listens

pytestmark = [pytest.mark.once, pytest.mark.processes]


@contextmanager
def consumer(page: Page, variables: Mapping[str, str]) -> Iterator[Running]:
    """Run the page's consumer, the only example with a call of print."""
    (source,) = (block for block in page.blocks("python") if "print(" in block)
    running = Running([sys.executable, "-u", "-c", source], environment=dict(variables))
    try:
        yield running
    finally:
        running.end_for_sure()


def sink_of(page: Page, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Sink:
    """Return the sink of the page's settings."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"os": os}
    exec(next(block for block in page.blocks("python") if "OUTBOX" in block), names)
    ((name, settings),) = names["OUTBOX"]["SINKS"].items()
    sink: Sink = import_string(settings["BACKEND"])(name, settings["OPTIONS"])
    return sink


def test_kafka(kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("docs/how-to/publish-to-kafka.md")
    variables = {"KAFKA": kafka.bootstrap_servers}
    sink = sink_of(page, variables, monkeypatch)
    exec(page.files()["create_topic.py"], {})
    with consumer(page, variables) as running:
        sent = message("shop.orders", headers={"ce_type": "orders.OrderPlaced", "ce_id": "7"})

        assert publish(sink, sent) == [None]

        running.says(rf"^orders\.OrderPlaced 7 {sent.key} \{{\}}$")
    assert sink.check(["shop.orders", "shop.payments"], timeout=30) == []
    sink.close()


def test_rabbitmq(rabbitmq: RabbitMQServer, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("docs/how-to/publish-to-rabbitmq.md")
    variables = {"PARTNERS_AMQP_URL": rabbitmq.url}
    sink = sink_of(page, variables, monkeypatch)
    with consumer(page, variables) as running:
        running.says("^ready$")
        sent = message(
            "orders.OrderPlaced", headers={"ce-type": "orders.OrderPlaced", "ce-id": "7"}
        )

        assert publish(sink, sent) == [None]

        running.says(r"^orders\.OrderPlaced 7 \{\}$")
        assert running.ends() == 0
    assert sink.check(["orders.OrderPlaced"], timeout=30) == []
    sink.close()


def test_redis_streams(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("docs/how-to/publish-to-redis-streams.md")
    variables = {"ANALYTICS_REDIS_URL": valkey.url}
    sink = sink_of(page, variables, monkeypatch)
    with consumer(page, variables) as running:
        running.says("^ready$")
        sent = message("shop.orders", headers={"type": "orders.OrderPlaced", "id": "7"})

        assert publish(sink, sent) == [None]

        running.says(r"^orders\.OrderPlaced 7 \{\}$")
        assert running.ends() == 0
    assert sink.check(["shop.orders"], timeout=30) == []
    sink.close()


def test_http(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page("docs/how-to/publish-over-http.md")
    variables = {"ERP_SECRET": new_secret(), "PORT": str(free_port())}
    url = f"http://127.0.0.1:{variables['PORT']}/events"
    sink = sink_of(page, variables, monkeypatch)
    with consumer(page, variables) as running:
        eventually(lambda: listens("127.0.0.1", int(variables["PORT"])), "the receiver listens")
        sent = message(url, headers={"ce-type": "orders.OrderPlaced", "ce-id": "7"})

        assert publish(sink, sent) == [None]

        running.says(r"^orders\.OrderPlaced 7 \{\}$")
        assert sink.check([url], timeout=30) == []
    sink.close()

"""After a redaction, no channel contains the customer's personal data."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import RequestFactory
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest_django import Settings

from orders import services
from orders.models import Order
from outbox import DomainEvent, Sensitive, emit, events, operations, subscribe, subscriptions
from outbox.models import Delivery, Event
from outbox.privacy.redaction import redact
from outbox.testing import Outbox
from shop.logs import PersonalDataFilter
from shop.metrics import answer
from tests.bank import BankProcess
from tests.inventory.factories import put_on_sale
from tests.notifications.mail_server import MailServer, mail_server
from tests.orders.factories import a_key, signed_in
from tests.outbox.command import outbox_command
from tests.webhooks.receiver import Receiver, receiving
from webhooks import services as webhooks
from webhooks.models import Attempt as Call

__all__ = ["mail_server"]

pytestmark = pytest.mark.django_db(transaction=True)

EMAIL = "hanako.yamada@example.com"
NAME = "Hanako Yamada-Tester"
PHONE = "+81 3 1234 5678"
#: Each of them, and parts that give it away.
SOUGHT = (EMAIL, "hanako.yamada", NAME, "Yamada-Tester", PHONE, "1234 5678")
#: The account is Django's, and staff delete it there.
ACCOUNT = "auth_user"


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What the console would show, of all loggers and levels."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(PersonalDataFilter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture
def spans(settings: Settings) -> InMemorySpanExporter:
    settings.OUTBOX = {**settings.OUTBOX, "TRACING": True}
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def fat_event() -> Iterator[type[DomainEvent]]:
    """An event that carries the data, with a handler that succeeds and one that quotes it."""
    handlers, classes = list(subscriptions.registry), dict(events.registry)

    class ParcelAddressed(DomainEvent, key="parcel", subject="user:{user_id}"):
        parcel: str
        user_id: int
        email: Sensitive[str]
        phone: Sensitive[str]

    @subscribe("tests.ParcelAddressed")
    def take_note(email: str) -> None:
        logging.getLogger("carrier").info("a library logs %s", email)

    @subscribe("tests.ParcelAddressed", attempts=1)
    def quote(email: str, phone: str) -> None:
        raise ValueError(f"no route to <{email.upper()}>, {phone}")

    yield ParcelAddressed
    subscriptions.registry[:] = handlers
    events.registry.clear()
    events.registry.update(classes)


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    settings.WEBHOOK_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiving() as one:
        one.behaviour = lambda request: request.answer(500, f"Who is {EMAIL}?".encode())
        yield one


class Story:
    """A customer orders, and all that can fail does, quoting the customer."""

    def __init__(self, mail: MailServer, receiver: Receiver, fat: type[Any]) -> None:
        self.outbox = Outbox()
        self.mail = mail
        self.user = User.objects.create_user(
            "hanako", EMAIL, first_name="Hanako", last_name="Yamada-Tester"
        )
        url = f"{receiver.url}?of=hanako.yamada"
        webhooks.add_endpoint(owner=self.user, url=url, event_types=["order.placed"])
        self.fat = fat

    def place_order(self) -> Order:
        wanted = {"payment_method": "tok_success", "lines": [{"sku": "TEA", "quantity": 1}]}
        client = signed_in(self.user)
        answer = client.post("/api/orders/", wanted, format="json", headers=a_key())
        assert answer.status_code == 201, answer.content
        return Order.objects.get(pk=answer.json()["id"])

    def fail_everywhere(self) -> None:
        self.mail.to_the_recipient = f"550 5.1.1 <{EMAIL}>: no mailbox of {NAME}"
        event = self.fat(parcel="P-1", user_id=self.user.pk, email=EMAIL, phone=PHONE)
        emit_in_transaction(event)
        self.outbox.deliver_all(raise_errors=False)

    def end(self, order: Order) -> None:
        services.cancel_order(order_id=order.id, by="hanako")
        self.outbox.deliver_all(raise_errors=False)

    def erase(self) -> None:
        self.outbox.let_pass(timedelta(hours=-1))  # the retry to a webhook comes after the erasure
        redact(subject=f"user:{self.user.pk}", by="ann", reason="asked to")
        self.outbox.deliver_all()
        self.outbox.let_pass(timedelta(hours=2))
        self.outbox.deliver_all()


def emit_in_transaction(event: DomainEvent) -> None:
    with transaction.atomic():
        emit(event)


@pytest.fixture
def story(
    bank: BankProcess,
    mail_server: MailServer,
    receiver: Receiver,
    fat_event: type[DomainEvent],
) -> Story:
    put_on_sale("TEA", units=5)
    return Story(mail_server, receiver, fat_event)


def tables() -> dict[str, str]:
    """Return all rows of each table, as text."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = str(cursor.fetchall())
    return found


def where(texts: dict[str, str]) -> dict[str, list[str]]:
    """Return, for each text that holds something of the customer, what it holds."""
    emitted = {
        name: [one for one in SOUGHT if one.lower() in text.lower()] for name, text in texts.items()
    }
    return {name: values for name, values in emitted.items() if values}


def scrape(settings: Settings) -> str:
    settings.OUTBOX = {**settings.OUTBOX, "METRICS_TOKEN": "token"}
    page = answer(RequestFactory().get("/metrics", headers={"Authorization": "Bearer token"}))
    assert page.status_code == 200
    return page.content.decode()


def archived(folder: Path) -> str:
    files = sorted(folder.glob("*.gz"))
    assert files
    return "".join(gzip.decompress(path.read_bytes()).decode() for path in files)


class TestACustomersData:
    def test_is_in_no_channel_after_a_redaction(
        self,
        story: Story,
        log: StringIO,
        spans: InMemorySpanExporter,
        tmp_path: Path,
        settings: Settings,
    ):
        order = story.place_order()
        story.fail_everywhere()
        story.end(order)
        dead = Delivery.objects.filter(state="dead")
        assert set(dead.values_list("subscription__handler", flat=True)) >= {
            "tests.quote",
            "notifications.acknowledge_order",
        }
        assert Call.objects.exists()
        # The test is about something: the data lies in these places before.
        assert set(where(tables())) >= {
            "outbox_event",
            "orders_order",
            "notifications_email",
            "webhooks_endpoint",
        }
        why = "".join(outbox_command("why", str(pk)) for pk in dead.values_list("pk", flat=True))

        operations.discard(
            operations.Choice(states=("dead",)), by="ann", reason="asked to be forgotten"
        )
        story.erase()

        assert not Delivery.objects.filter(state__in=Delivery.OWED).exists()
        assert Event.objects.filter(redacted_at__isnull=False).exists()
        assert set(where(tables())) <= {ACCOUNT}
        operations.prune(older_than=timedelta(0), archive=tmp_path)
        traces = "".join(span.to_json() for span in spans.get_finished_spans())
        assert traces
        outputs = {
            "log": log.getvalue(),
            "why": why,
            "traces": traces,
            "metrics": scrape(settings),
            "archive": archived(tmp_path),
        }
        assert where(outputs) == {}

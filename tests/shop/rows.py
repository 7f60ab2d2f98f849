"""One row of each model with admin pages, with recognisable secrets."""

from __future__ import annotations

from uuid import uuid4

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from api.models import ApiToken
from api.tokens import add_token
from inventory.models import Reservation, Stock, StockMovement
from notifications.models import Email
from orders.models import Order
from outbox import DomainEvent, Sensitive
from outbox.models import (
    Alert,
    Attempt,
    DelayedEvent,
    Delivery,
    Event,
    Minute,
    Operation,
    Settlement,
    Subscription,
)
from payments.models import BankReport, Payment
from shop.models import Reconciliation
from tests.inventory.factories import put_on_sale
from webhooks import models as webhooks

#: No page, search, filter, order or download of the admin shows one of these.
SECRETS = {
    "payload": "masked-in-the-payload@example.com",
    "secret": "whsec_that-signs-webhooks",
    "old secret": "whsec_that-signed-webhooks",
    "password": "hash-of-a-password",
    "token": "the-token-of-alice",
}
#: Only who may view deliveries reads these.
FAILURES = {
    "note": "note of a delivery",
    "exception": "NameOfAnException",
    "message": "message of an exception",
    "traceback": "traceback of an exception",
    "place": "place.py:1",
    "breaker": "reason of a breaker",
    "operation": "reason of an operation",
}


class Enrolled(DomainEvent, key="order_id"):
    """A customer is enrolled."""

    order_id: str
    email: Sensitive[str]
    points: float = 0


def a_row_of_each() -> dict[type[Model], Model]:
    """Store one row of each registered model, and return it by its model."""
    order = _order()
    made = [order, *_outbox(order), *_shop(order), *_webhooks(order), *_beat(), *_people()]
    rows: dict[type[Model], Model] = {type(row): row for row in made}
    assert set(rows) >= set(admin.site._registry), "a model in the admin has no row here"
    return rows


def _outbox(order: Order) -> list[Model]:
    now, key = timezone.now(), str(order.pk)
    facts = {
        "name": "tests.Enrolled",
        "key": key,
        "payload": {"order_id": key, "email": SECRETS["payload"], "points": 1},
        "correlation_id": uuid4(),
    }
    event = Event.objects.create(**facts, emitted_at=now, fanned_out_at=now)
    subscription = Subscription.objects.create(
        handler="tests.welcome",
        event="tests.Enrolled",
        since=now,
        queue="tests",
        batch=1,
        window=1,
        window_now=1,
        lease_seconds=60,
        backoff_base=1,
        backoff_cap=1,
        breaker_opened_at=now,
        breaker_probe_at=now,
        breaker_reason=FAILURES["breaker"],
    )
    delivery = Delivery.objects.create(
        event=event,
        subscription=subscription,
        state=Delivery.State.DEAD,
        due_at=now,
        attempts=1,
        note=FAILURES["note"],
    )
    attempt = Attempt.objects.create(
        delivery=delivery,
        number=1,
        started_at=now,
        ended_at=now,
        outcome=Attempt.Outcome.FAILED,
        exception=FAILURES["exception"],
        message=FAILURES["message"],
        traceback=FAILURES["traceback"],
        place=FAILURES["place"],
    )
    delayed = DelayedEvent.objects.create(**facts, due_at=now, stored_at=now)
    operation = Operation.objects.create(
        action="retry", by="user:1", reason=FAILURES["operation"], started_at=now, seen_at=now
    )
    minute = Minute.objects.create(minute=now, handler=subscription.handler)
    settlement = Settlement.objects.create(
        delivery=delivery, event=event.id, consumer="billing", due_at=now
    )
    alert = Alert.objects.create(
        problem="dead", trigger="dead", text=FAILURES["message"], opened_at=now, seen_at=now
    )
    return [event, subscription, delivery, attempt, delayed, operation, minute, settlement, alert]


def _order() -> Order:
    order = Order.objects.create(
        customer=User.objects.create_user("hanako", "hanako@example.com"),
        email="hanako@example.com",
        language="en",
        status="placed",
        total_amount=500,
        currency="JPY",
    )
    order.lines.create(sku="TEA", name="Tea", unit_amount=500, currency="JPY", quantity=1)
    return order


def _shop(order: Order) -> list[Model]:
    product = put_on_sale()
    return [
        product,
        Stock.objects.get(product=product),
        StockMovement.objects.get(product=product),
        Reservation.objects.create(order_id=order.pk, status="reserved"),
        Payment.objects.create(
            order_id=order.pk,
            status="intended",
            amount=500,
            currency="JPY",
            payment_method="tok_success",
        ),
        BankReport.objects.create(report_id="report-1", kind="captured", body="{}"),
        Email.objects.create(
            order_id=order.pk,
            kind="acknowledgement",
            message_id="<1@example.com>",
            recipient="hanako@example.com",
            language="en",
            subject="Thank you",
            text="Thank you",
            html="<p>Thank you</p>",
            sent_at=timezone.now(),
        ),
        Reconciliation.objects.create(
            checked_at=timezone.now(),
            seconds=1,
            balanced=True,
            differences=0,
            unsettled=0,
            report={"balanced": True, "invariants": []},
        ),
    ]


def _webhooks(order: Order) -> list[Model]:
    endpoint = webhooks.Endpoint.objects.create(
        owner=order.customer,
        url="https://example.com/hook",
        event_types=["order.placed"],
        secret=SECRETS["secret"],
        old_secret=SECRETS["old secret"],
        disabled_at=timezone.now(),
        disabled_because="by_staff",
    )
    message = webhooks.Message.objects.create(
        endpoint=endpoint, event_id=uuid4(), type="order.placed", body="{}"
    )
    attempt = webhooks.Attempt.objects.create(
        endpoint=endpoint, message=message, number=1, status_code=500, duration_ms=1
    )
    return [endpoint, message, attempt]


def _beat() -> list[Model]:
    interval = IntervalSchedule.objects.create(every=10, period="seconds")
    task = PeriodicTask.objects.create(name="look", task="outbox.relay", interval=interval)
    return [
        interval,
        task,
        CrontabSchedule.objects.create(),
        ClockedSchedule.objects.create(clocked_time=timezone.now()),
        SolarSchedule.objects.create(event="sunrise", latitude=35, longitude=139),
    ]


def _people() -> list[Model]:
    alice = User.objects.create(
        username="alice", password=f"pbkdf2_sha256$1$salt${SECRETS['password']}"
    )
    add_token(user=alice, label="nightly import", token=SECRETS["token"])
    access = {
        "user_agent": "curl",
        "ip_address": "192.0.2.1",
        "username": "alice",
        "http_accept": "*/*",
        "path_info": "/admin/login/",
    }
    return [
        alice,
        ApiToken.objects.get(),
        Group.objects.create(name="accountants"),
        AccessAttempt.objects.create(**access, get_data="", post_data="", failures_since_start=1),
        AccessLog.objects.create(**access),
        AccessFailureLog.objects.create(**access),
    ]

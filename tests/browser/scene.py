"""The data of the browser tests: completed orders, and one example of each problem.

The data is created as in production: orders through the API, a mail server that is down, handlers
that are paused by staff.
"""

from __future__ import annotations

from dataclasses import dataclass

from shop.demo.customers import PlacedOrder
from shop.demo.scenarios import OrderSpec
from tests.browser.site import TEA, Site

WELL = (
    OrderSpec(customer="alice", lines={"TEA-SENCHA": 2, "WHISK-CHASEN": 1}),
    OrderSpec(customer="alice", lines={"BOWL-RAKU": 1}, pays_with="tok_slow"),
    OrderSpec(customer="alice", lines={"TEA-SENCHA": 1}, pays_with="tok_declined"),
    OrderSpec(customer="alice", lines={"CLOCK-WALL": 2}),
    OrderSpec(customer="alice", lines={"KETTLE-IRON": 1}),
    TEA,
)
#: A handler that no order needs. It is made ordered.
IN_ORDER = "orders.erase_answers"

_SHIP = """
from orders.services import ship_order
ship_order(order_id="{order}", carrier="Kuroneko", tracking_number="4711", by="demo")
"""
_PAUSE = f"""
from django.db import transaction
from outbox import emit, operations
from outbox.models import Subscription
from outbox.privacy.redaction import SubjectRedacted
Subscription.objects.filter(handler="{IN_ORDER}").update(ordered=True)
operations.pause("{IN_ORDER}", by="user:1", reason="Lawyers look at what may be forgotten.")
for subject in ("customer:4711", "customer:4711", "customer:4711", "customer:4712"):
    with transaction.atomic():
        emit(SubjectRedacted(subject=subject))
"""
_UNREADABLE = """
from outbox.sources import ReceivedMessage
from outbox.sources.configuration import configured
from outbox.sources.state import flush
from outbox.sources.storing import store
body = b'{"specversion": "1.0", "id": "7", "source": "/carrier", "type": "parcel.booked"'
found = [ReceivedMessage(position=f"message {n}", topic="/carrier", body=body) for n in (1, 1, 2)]
store(configured()["carrier"], found)
flush()
"""
#: Their deadlines are in the future: a relay withdraws those of a consumer that no sink names.
_SETTLEMENTS = """
from datetime import timedelta
from django.utils import timezone
from outbox.models import Delivery, Settlement
now = timezone.now()
ways = (("done", "open", 0), ("done", "open", 1), ("dead", "missing", 3), ("done", "settled", 0))
for number, (delivery, state, replays) in enumerate(ways):
    row = Delivery.objects.filter(state=delivery).order_by("id")[number]
    Settlement.objects.create(
        delivery=row, event=row.event.id, consumer="billing", state=state, replays=replays,
        due_at=now + timedelta(hours=1), settled_at=now if state == "settled" else None,
    )
"""
_ALERTS = """
from django.utils import timezone
from outbox.models import Alert, AlertNotice
now = timezone.now()
for number, resolved_at in enumerate((None, now)):
    alert = Alert.objects.create(
        problem=f"dead:{number}", trigger="dead", opened_at=now, seen_at=now, path="/admin/outbox/",
        text="payments.capture_payment has 2 dead deliveries: BankRefused (payments/services.py). "
        "Fix the cause, then retry: `manage.py outbox retry --dead`.", resolved_at=resolved_at,
    )
    AlertNotice.objects.create(alert=alert, channel="mail", sent_at=now)
    AlertNotice.objects.create(alert=alert, channel="chat", error="127.0.0.1 answered 503.")
"""
_LINK = """
from django.contrib.auth.models import User
from storefront.verification import token_of
print(token_of(User.objects.get(username="alice")))
"""
_LATER = """
from datetime import timedelta
from uuid import uuid4
from django.db import transaction
from orders.events import OrderReceived
from outbox import emit
with transaction.atomic():
    emit(OrderReceived(order_id=uuid4()), delay=timedelta(hours=6))
"""


@dataclass(frozen=True)
class Scene:
    """The orders that the pages show.

    Attributes:
        well: an order that was completed and shipped.
        stuck: an order whose e-mails are dead.
        link: the secret part of a link that verifies a customer's address.
    """

    well: PlacedOrder
    stuck: PlacedOrder
    link: str


def furnish(site: Site) -> Scene:
    """Create the data of the pages; return once nothing is owed."""
    with site.mail_server():
        well, *_others = [site.place(spec) for spec in WELL]
        site.wait_until_settled()
        site.run(_SHIP.format(order=well.id) + _LATER)
        site.wait_until_settled()
    stuck = [site.place() for _ in range(3)][-1]
    site.run(_PAUSE + _UNREADABLE + _SETTLEMENTS + _ALERTS)
    site.wait_until_settled()
    return Scene(well=well, stuck=stuck, link=site.run(_LINK).split()[-1])

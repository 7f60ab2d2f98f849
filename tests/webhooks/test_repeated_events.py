"""A webhook message is written once for each event and endpoint, however often its handler runs."""

from __future__ import annotations

import pytest

from outbox import operations
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import customer, place
from webhooks import services
from webhooks.models import Endpoint, EventType, Message

pytestmark = pytest.mark.django_db

HANDLER = "webhooks.write_messages"


def add_endpoint(number: int) -> Endpoint:
    return services.add_endpoint(
        owner=customer(), url=f"https://1.1.1.1/{number}", event_types=EventType.values
    )


def deliver(outbox: Outbox) -> str:
    outbox.deliver_all(only=HANDLER, raise_errors=False)
    return Delivery.objects.get(subscription__handler=HANDLER).state


def replay() -> None:
    choice = operations.Choice(handler=HANDLER)
    operations.replay(choice, by="ann", reason="a test")


class TestAReplay:
    """Failed: the constraint refused the second message, until the delivery was dead."""

    def test_writes_no_second_message(self, outbox: Outbox):
        put_on_sale("TEA")
        add_endpoint(1)
        place()
        deliver(outbox)
        [before] = Message.objects.all()

        replay()

        assert deliver(outbox) == "done"
        assert [one.pk for one in Message.objects.all()] == [before.pk]
        assert Event.objects.filter(name="webhooks.MessagesWritten").count() == 1

    def test_writes_a_message_to_a_new_endpoint(self, outbox: Outbox):
        put_on_sale("TEA")
        add_endpoint(1)
        place()
        deliver(outbox)
        added = add_endpoint(2)

        replay()

        assert deliver(outbox) == "done"
        assert Message.objects.count() == 2
        assert added.messages.count() == 1
        assert Event.objects.filter(name="webhooks.MessagesWritten").count() == 2

"""How much the relay sends at a time: whole messages, while the workers have enough to do."""

from __future__ import annotations

from uuid import uuid4

import pytest

from outbox import subscribe
from outbox.engine.decisions import helping, whole_messages
from outbox.engine.relay import relay_pass
from outbox.models import Delivery
from outbox.testing import Outbox


class TestAHelping:
    @pytest.mark.parametrize(
        ("in_flight", "room"),
        [(0, 500), (49, 451), (50, 450), (375, 125), (376, 0), (500, 0), (600, 0)],
    )
    def test_is_the_room_until_less_than_a_quarter_is_left(self, in_flight: int, room: int):
        assert helping(window=500, in_flight=in_flight, batch=50) == room

    @pytest.mark.parametrize("in_flight", [0, 1, 2])
    def test_is_all_the_room_of_a_window_that_is_smaller_than_a_message(self, in_flight: int):
        """Seen to fail without `in_flight >= batch`: it would stand still until it is empty."""
        assert helping(window=3, in_flight=in_flight, batch=50) == 3 - in_flight


class TestWholeMessages:
    @pytest.mark.parametrize(("in_flight", "number"), [(0, 120), (49, 120), (50, 100), (400, 100)])
    def test_go_alone_while_others_are_in_flight(self, in_flight: int, number: int):
        assert whole_messages(120, in_flight=in_flight, batch=50) == number


@pytest.mark.usefixtures("own_registry")
class TestWhatIsLeftOfAMessage:
    def test_goes_as_soon_as_the_workers_have_less_than_one(self):
        """Seen to fail with `whole_messages` asked whatever is in flight."""

        @subscribe("shops.Ordered", batch=2, window=10)
        def count() -> None: ...

        outbox = Outbox()
        for number in range(3):
            outbox.given("shops.Ordered", order_id=uuid4(), number=number)
            relay_pass(publish=lambda message: None)
        sent = Delivery.objects.filter(state="sent")
        assert sent.count() == 2

        Delivery.objects.filter(pk=sent.order_by("pk")[0].pk).update(state="done")
        relay_pass(publish=lambda message: None)

        assert not Delivery.objects.filter(state="pending").exists()

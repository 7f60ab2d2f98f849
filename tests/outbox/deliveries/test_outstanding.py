from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from outbox import is_owed
from outbox.models import Delivery
from outbox.testing import Outbox

pytestmark = pytest.mark.django_db

KEY = str(uuid7())
LATER = timezone.now() + timedelta(days=1)


@pytest.fixture
def emitted(outbox: Outbox) -> None:
    """Two events, fanned out and not delivered. Their handlers are in two apps."""
    outbox.given("freight.ShipmentRefused", parcel_id=KEY, reason="requested")
    outbox.given("freight.ShipmentArrived", parcel_id=KEY)
    outbox.deliver_all(only="freight")


def settle(state: str = "done", **more: Any) -> None:
    Delivery.objects.filter(event__key=KEY).update(state=state, **more)


class TestIsOwed:
    def test_counts_an_event_that_waits_for_fan_out(self, outbox: Outbox):
        assert not is_owed(key=KEY)

        outbox.given("freight.ShipmentArrived", parcel_id=KEY)

        assert is_owed(key=KEY, to=["tracking"])

    @pytest.mark.parametrize("state", ["pending", "sent", "dead", "parked"])
    def test_counts_owed_deliveries(self, emitted: None, state: str):
        settle(state)

        assert is_owed(key=KEY)
        assert is_owed(key=KEY, to=["freight", "depot"])

    @pytest.mark.parametrize("state", ["done", "discarded"])
    def test_leaves_out_settled_deliveries(self, emitted: None, state: str):
        settle(state)

        assert not is_owed(key=KEY)

    def test_may_be_limited_to_some_apps(self, emitted: None):
        Delivery.objects.exclude(subscription__handler="depot.remove_parcel").update(state="done")

        assert is_owed(key=KEY, to=["depot"])
        assert not is_owed(key=KEY, to=["depo", "tests"])

    @pytest.mark.parametrize(
        "failed",
        [{"state": "pending", "attempts": 1, "due_at": LATER}, {"state": "dead", "attempts": 1}],
        ids=["backing off", "dead"],
    )
    def test_may_leave_out_failed_deliveries(self, emitted: None, failed: dict[str, Any]):
        settle(**failed)

        assert is_owed(key=KEY)
        assert not is_owed(key=KEY, failed=False)

    @pytest.mark.parametrize(
        "ours",
        [
            {"state": "pending", "attempts": 0, "due_at": LATER},
            {"state": "pending", "attempts": 1, "due_at": LATER - timedelta(days=2)},
            {"state": "sent", "attempts": 1},
            {"state": "parked", "attempts": 1},
        ],
        ids=["untried", "due", "in hand", "parked"],
    )
    def test_counts_overdue_deliveries_in_any_case(self, emitted: None, ours: dict[str, Any]):
        settle(**ours)

        assert is_owed(key=KEY, failed=False)

    def test_leaves_out_other_keys(self, emitted: None):
        assert not is_owed(key=str(uuid7()))

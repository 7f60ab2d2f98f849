"""The facts of an event do not change with its deliveries (rule 2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from outbox import operations, subscribe
from outbox.models import Delivery, Event
from outbox.testing import Outbox
from tests.outbox.drive import expire_leases_and_backoffs, run_pass

pytestmark = pytest.mark.usefixtures("own_registry")

BOOKKEEPING = {"fanned_out_at"}


def facts() -> dict[str, Any]:
    row = Event.objects.values().get()
    return {name: value for name, value in row.items() if name not in BOOKKEEPING}


class TestTheFactsOfAnEvent:
    def test_are_unchanged_by_failures_crashes_pauses_and_retries(self):
        """Seen to fail with `emitted_at` set in `_fan_out`, and with a payload that a handler
        changed stored again.
        """
        mended: list[bool] = []

        @subscribe("shops.Ordered", backoff_base=0, attempts=4)
        def count(lines: list[dict[str, int]]) -> None:
            lines.append({"added by the handler": 1})
            if not mended:
                raise ValueError

        outbox = Outbox()
        outbox.given("shops.Ordered", order_id=uuid4(), lines=[{"tea": 1}])
        before = facts()

        run_pass()
        Delivery.objects.update(started_token=1, attempts=1)  # its worker is killed
        expire_leases_and_backoffs()
        outbox.deliver_all(raise_errors=False)  # finds that out
        outbox.deliver_all(raise_errors=False)
        assert Delivery.objects.get().state == "dead"
        operations.pause("tests.count", by="ann", reason="a test")
        operations.resume("tests.count", by="ann")
        mended.append(True)
        operations.retry(operations.Choice(), by="ann")
        outbox.deliver_all(twice=True)
        operations.prune(older_than=timedelta(days=1))

        assert Delivery.objects.get().state == "done"
        assert facts() == before

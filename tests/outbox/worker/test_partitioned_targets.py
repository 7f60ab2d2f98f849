"""Targets of an event in a partitioned table, which no foreign key keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from outbox import clock, operations, subscribe
from outbox.deliveries import receipts
from outbox.models import Delivery, Event
from outbox.retention.batches import prune_some
from tests.outbox.drive import emit_orders, run_messages, run_pass
from tests.threads import in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("converted"),
]


class TestANewTarget:
    def test_keeps_its_event_from_pruning(self, monkeypatch: pytest.MonkeyPatch):
        """The pruning transaction began before the new delivery commits."""
        targets, give, pruned = ["a"], receipts.give, list[Callable[[], object]]()

        @subscribe("shops.Ordered", targets=lambda: targets)
        def send(target: str) -> None: ...

        def give_and_let_prune(rows: Sequence[Delivery], *, using: str) -> None:
            give(rows, using=using)
            if not rows[0].target and not pruned:
                pruned.append(in_thread(prune))
                wait_until_blocked(1)

        def prune() -> int:
            later = clock.now() + timedelta(days=1)
            return prune_some([event.seq], before=later, archive=None, using="default")

        emit_orders()
        event = Event.objects.get()
        while messages := run_pass():
            run_messages(messages)
        targets.append("b")
        finders = operations.Choice(ids=(Delivery.objects.get(target="").pk,))
        operations.replay(finders, by="ann", reason="new targets", rate=None)
        monkeypatch.setattr(receipts, "give", give_and_let_prune)
        run_messages(run_pass())

        assert pruned[0]() == 0
        assert Delivery.objects.filter(target="b").count() == 1
        assert Event.objects.count() == 1

"""Each tenant has a fair share of a handler's window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from outbox import BulkDelivery, DomainEvent, emit, subscribe, subscriptions
from outbox.deliveries import shares
from outbox.models import Delivery, Event
from outbox.tenants import SHARE_WINDOW, of_all_tenants
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass

from . import hooks
from .conftest import Configure

pytestmark = pytest.mark.usefixtures("own_registry", "no_nudge", "from_the_first_share")


class Moved(DomainEvent, key="box"):
    box: str


class Noted(DomainEvent, key="box", share="owner:{owner}"):
    box: str
    owner: int | None


@pytest.fixture
def from_the_first_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_stopped_at", {})


def emit_in(tenant: str | None, number: int) -> None:
    with hooks.restore(tenant), transaction.atomic():
        for _ in range(number):
            emit(Moved(box=uuid4().hex))


def subscribe_see(**policy: Any) -> None:
    @subscribe("tests.Moved", name="tests.see", batch=1, **policy)
    def see() -> None: ...

    Outbox()


def claimed_next() -> Counter[str | None]:
    """Return the tenants of the deliveries that the next pass claims."""
    ids = [pk for message in run_pass() for pk, _token in message.pairs]
    rows = Delivery.objects.filter(pk__in=ids)
    return Counter(rows.values_list("event__tenant", flat=True))


@pytest.mark.django_db(transaction=True)
class TestABacklogOfOneTenant:
    @pytest.mark.parametrize("is_fanned_out", [False, True], ids=["new events", "backlog"])
    def test_does_not_delay_the_event_of_another(self, is_fanned_out: bool, configure: Configure):
        """The window has room for 20. Without shares the oldest 20 would be those of acme."""
        configure(SHARE_WINDOW=3)
        subscribe_see(window=20)
        emit_in("acme", 50)
        emit_in("bolt", 1)
        if is_fanned_out:
            while Event.objects.filter(fanned_out_at=None).exists():
                run_pass(only=[])

        assert claimed_next() == {"acme": 3, "bolt": 1}

    def test_is_claimed_in_turn_with_the_backlog_of_another(self, configure: Configure):
        configure(SHARE_WINDOW=2)
        subscribe_see(window=20)
        emit_in("acme", 30)
        emit_in("bolt", 6)
        order = []
        while messages := run_pass():
            ids = [pk for one in messages for pk, _token in one.pairs]
            tenants = Delivery.objects.filter(pk__in=ids).values_list("event__tenant", flat=True)
            order.append(Counter(tenants))
            run_messages(messages)

        assert order[:3] == [{"acme": 2, "bolt": 2}] * 3
        assert order[3:] == [{"acme": 2}] * 12

    def test_has_the_events_whose_class_names_an_owner_that_is_none(self, configure: Configure):
        """Failed: such events of all tenants had one share, "owner:None"."""
        configure(SHARE_WINDOW=3)
        with hooks.restore("acme"), transaction.atomic():
            emit(Noted(box="1", owner=None))

        assert Event.objects.get().share == "acme"

    def test_waits_for_nobody_without_a_limit(self, configure: Configure):
        configure(SHARE_WINDOW=None)
        subscribe_see(window=20)
        emit_in("acme", 50)
        emit_in("bolt", 1)

        assert claimed_next() == {"acme": 20}


class TestTheShareWindow:
    def of(self, **policy: Any) -> int | None:
        @subscribe("tests.Moved", name="tests.see", **policy)
        def see() -> None: ...

        return subscriptions.registry[-1].share_window

    def test_is_that_of_the_setting_unless_the_handler_has_its_own(self, configure: Configure):
        assert self.of() is None

        configure()
        assert self.of() == SHARE_WINDOW
        assert self.of(share_window=2) == 2

        configure(SHARE_WINDOW=5)
        assert self.of() == 5

    def test_is_none_for_handlers_that_mix_tenants(self, configure: Configure):
        """A sink publishes events of all tenants in one call."""
        configure()

        @subscribe("tests.Moved", name="tests.publish", bulk=True)
        @of_all_tenants
        def publish(deliveries: Sequence[BulkDelivery]) -> None: ...

        assert subscriptions.registry[-1].share_window is None

    def test_is_none_for_tasks_which_are_sent_by_priority(self, configure: Configure):
        configure()

        @subscribe("outbox.TaskEnqueued.default", name="tests.run")
        def run() -> None: ...

        assert subscriptions.registry[-1].share_window is None

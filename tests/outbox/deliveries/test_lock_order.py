"""Statements on several deliveries of a partition lock them in the order of ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
from django.db import transaction

from outbox import subscribe
from outbox.deliveries import receipts, settlement
from outbox.deliveries.lease import Lease
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.models import Delivery
from outbox.subscriptions import Handler, find
from outbox.transports.base import Message
from outbox.worker.start import start
from tests.outbox.converted import in_another_transaction, rows
from tests.outbox.drive import emit_orders, run_pass
from tests.threads import in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("converted"),
]

Action = Callable[[], object]


def handler() -> Handler:
    found = find("tests.keep")
    assert found is not None
    return found


@pytest.fixture
def message(converted: None) -> Message:
    """Return a message whose deliveries have descending ids in the order of their events."""

    @subscribe("shops.Ordered")
    def keep() -> None: ...

    emit_orders(5)
    run_pass(only=[])
    rows("UPDATE outbox_delivery SET id = 1000 - id")
    [found] = run_pass()
    return found


def started(message: Message) -> list[Delivery]:
    access = DatabaseAccess("default")
    return start(handler(), message.pairs, worker="w", events=message.events, access=access)


def give(given: Sequence[Delivery]) -> None:
    with transaction.atomic():
        receipts.give(given, using="default")


def giving(message: Message) -> Action:
    return partial(give, started(message))


def renewing(message: Message) -> Action:
    return Lease(started(message), seconds=60, using="default").renew


def starting(message: Message) -> Action:
    return partial(started, message)


def handing_back(message: Message) -> Action:
    back = partial(settlement.hand_back, message.pairs, note="", using="default")
    return partial(back, events=message.events)


class TestDeliveriesOfAPartition:
    @pytest.mark.parametrize("kind", [giving, renewing, starting, handing_back])
    def test_are_locked_in_the_order_of_ids(
        self, message: Message, kind: Callable[[Message], Action]
    ):
        """Otherwise two workers with one message would find a deadlock."""
        action = kind(message)
        first, *others = sorted(pk for pk, _token in message.pairs)
        with in_another_transaction(
            f"SELECT id FROM outbox_delivery WHERE id = {first} FOR UPDATE"
        ):
            ended = in_thread(action)
            wait_until_blocked(1)
            with transaction.atomic():
                free = rows("SELECT id FROM outbox_delivery ORDER BY id FOR UPDATE SKIP LOCKED")

        assert not isinstance(ended(), Exception)
        assert [pk for (pk,) in free] == others

    @pytest.mark.parametrize("kind", [giving, starting])
    def test_of_several_tokens_are_locked_in_the_order_of_ids(
        self, message: Message, kind: Callable[[Message], Action]
    ):
        """Deliveries that were lost before have another token, and share the transaction."""
        _first, second, *others = sorted(pk for pk, _token in message.pairs)
        for pk in (second, others[-1]):
            rows(f"UPDATE outbox_delivery SET token = 2 WHERE id = {pk}")
        pairs = tuple(Delivery.objects.order_by("pk").values_list("pk", "token"))
        action = kind(replace(message, pairs=pairs))
        with in_another_transaction(
            f"SELECT id FROM outbox_delivery WHERE id = {second} FOR UPDATE"
        ):
            ended = in_thread(action)
            wait_until_blocked(1)
            with transaction.atomic():
                free = rows("SELECT id FROM outbox_delivery ORDER BY id FOR UPDATE SKIP LOCKED")

        assert not isinstance(ended(), Exception)
        assert [pk for (pk,) in free] == others

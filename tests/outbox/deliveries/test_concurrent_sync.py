"""A `migrate` that changes a handler's policy while relays and workers go by the former one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import pytest

from outbox import DomainEvent, PermanentFailure, subscribe, subscriptions
from outbox.deliveries import sync
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Delivery, Subscription
from outbox.subscriptions import Handler
from outbox.testing import Outbox
from tests.outbox.drive import create_deliveries, run_messages, run_pass, states
from tests.outbox.ordered import A, Listener, emit_numbers
from tests.threads import aside, in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Posted(DomainEvent, key="letter_id", share="owner:{owner}"):
    letter_id: str
    owner: int


Action = Callable[[], object]


@pytest.fixture
def before_the_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Action], None]:
    """Let an action run once, when a function of `sync` has changed the deliveries."""

    def run(name: str, action: Action) -> None:
        change: Any = getattr(sync, name)
        ran: list[bool] = []

        def change_and_run(row: Subscription, *, using: str) -> None:
            change(row, using=using)
            if not ran:
                ran.append(True)
                action()

        monkeypatch.setattr(sync, name, change_and_run)

    return run


class TestAHandlerThatBecomesOrdered:
    def test_gets_no_unordered_delivery_from_a_relay(self, before_the_commit):
        """Failed: such a delivery ran out of order, and no later `migrate` repaired it."""
        listener = Listener()
        listener.subscribe(ordered=False)
        emit_numbers(1)
        create_deliveries()
        emit_numbers(2)
        subscriptions.registry.clear()
        before_the_commit("set_order_keys", partial(aside, create_deliveries))

        listener.subscribe()

        assert list(Delivery.objects.values_list("order_key", flat=True)) == [str(A), str(A)]

    def test_leaves_those_alone_that_later_ones_pass(self, before_the_commit):
        listener = Listener()
        listener.subscribe(ordered=False)
        listener.failing[1] = PermanentFailure("no")
        emit_numbers(1)
        Outbox().deliver_all(raise_errors=False)
        emit_numbers(2)
        subscriptions.registry.clear()
        before_the_commit("set_order_keys", partial(aside, create_deliveries))

        listener.subscribe(on_dead="pass")

        found = Delivery.objects.order_by("event").values_list("state", "order_key")
        assert list(found) == [("dead", None), ("pending", str(A))]

    def test_is_completed_by_the_migrate_after_one_that_died(self, before_the_commit, monkeypatch):
        """Failed: the deliveries that a relay had stored meanwhile stayed without an order key."""

        def die(handler: Handler, *, using: str) -> None:
            raise KeyboardInterrupt

        listener = Listener()
        listener.subscribe(ordered=False)
        emit_numbers(1)
        subscriptions.registry.clear()
        before_the_commit("set_order_keys", partial(aside, create_deliveries))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(sync, "_complete", die)
            listener.subscribe()
        assert Delivery.objects.get().order_key is None

        sync_subscriptions()

        assert Delivery.objects.get().order_key == str(A)


class TestAHandlerWhoseDeadDeliveriesMayBePassed:
    def test_is_not_held_by_one_that_dies_meanwhile(self, before_the_commit):
        """Failed: its worker had read the former policy, and its key waited for a person."""
        is_running, may_fail = threading.Event(), threading.Event()

        def subscribe_note(on_dead: Literal["hold", "pass"]) -> None:
            @subscribe("tests.Walked", name="tests.note", ordered=True, on_dead=on_dead)
            def note() -> None:
                is_running.set()
                assert may_fail.wait(60)
                raise PermanentFailure("no")

            sync_subscriptions()

        def let_it_fail() -> None:
            may_fail.set()
            wait_until_blocked(1)

        subscribe_note("hold")
        emit_numbers(1, 2)
        worker = in_thread(partial(run_messages, run_pass()))
        assert is_running.wait(60)
        subscriptions.registry.clear()
        before_the_commit("set_order_keys", let_it_fail)

        subscribe_note("pass")
        worker()

        assert states() == ["dead", "pending"]


class TestAHandlerThatGetsAShareWindow:
    def test_gets_no_delivery_without_a_share_from_a_relay(self, before_the_commit):
        """Failed: such deliveries did not count."""

        def subscribe_send(share_window: int | None) -> None:
            @subscribe("tests.Posted", name="tests.send", share_window=share_window)
            def send() -> None: ...

            sync_subscriptions()

        def post() -> None:
            Outbox().given("tests.Posted", letter_id=uuid4().hex, owner=1)

        subscribe_send(None)
        post()
        create_deliveries()
        post()
        subscriptions.registry.clear()
        before_the_commit("set_shares", partial(aside, create_deliveries))

        subscribe_send(2)

        assert list(Delivery.objects.values_list("share", flat=True)) == ["owner:1"] * 2

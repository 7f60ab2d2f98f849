"""A handler with targets has one delivery for each target that data names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from outbox import (
    Breaker,
    BulkDelivery,
    DomainEvent,
    PermanentFailure,
    Receipt,
    Target,
    operations,
    subscribe,
    subscriptions,
)
from outbox.deliveries import failpoints
from outbox.deliveries.joining import join_names
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.testing import Outbox
from tests.outbox.drive import (
    Died,
    die,
    emit_orders,
    expire_leases_and_backoffs,
    run_message,
    run_messages,
    run_pass,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


def stored_names(number: int) -> Iterable[str]:
    """Return the targets, which are the groups of this database."""
    return Group.objects.order_by("name").values_list("name", flat=True)


@pytest.fixture(autouse=True)
def receivers() -> list[str]:
    for name in ("a", "b"):
        Group.objects.create(name=name)
    return ["a", "b"]


def send_to_each(**options: object) -> list[tuple[str, int]]:
    """Subscribe a handler with targets; return the target and number of each of its calls."""
    sent: list[tuple[str, int]] = []

    @subscribe("shops.Ordered", "shops.Returned", targets=stored_names, atomic=False)
    def send(target: str, number: int, receipt: Receipt) -> None:
        sent.append((target, number))
        if target in options:
            raise options[target]  # type: ignore[misc]
        with receipt:
            pass

    return sent


def run_all() -> None:
    while messages := run_pass():
        run_messages(messages)


def states_by_target() -> dict[str, str]:
    return dict(Delivery.objects.values_list("target", "state"))


class TestAnEvent:
    def test_has_a_delivery_for_each_target(self):
        sent = send_to_each()
        emit_orders(1)

        run_all()

        assert sorted(sent) == [("a", 0), ("b", 0)]
        assert states_by_target() == {"": "done", "a": "done", "b": "done"}

    def test_without_targets_is_done(self):
        Group.objects.all().delete()
        send_to_each()
        emit_orders(1)

        run_all()

        assert states_by_target() == {"": "done"}

    def test_shares_the_subscription_with_the_other_events(self):
        sent = send_to_each()
        outbox = emit_orders(1)
        outbox.given("shops.Returned", order_id=uuid4(), number=7)

        run_all()

        assert sorted(sent) == [("a", 0), ("a", 7), ("b", 0), ("b", 7)]
        assert Delivery.objects.values("subscription").distinct().count() == 1


class TestATargetThatFails:
    def test_has_no_effect_on_the_others(self):
        send_to_each(a=PermanentFailure("gone"))
        emit_orders(1)

        run_all()

        assert states_by_target() == {"": "done", "a": "dead", "b": "done"}
        assert Attempt.objects.get().delivery.target == "a"

    def test_is_named_in_the_log(self, caplog: pytest.LogCaptureFixture):
        send_to_each(a=PermanentFailure("gone"))
        emit_orders(1)

        with caplog.at_level("WARNING", logger="outbox.delivery"):
            run_all()

        [line] = caplog.records
        assert line.getMessage().startswith(f"tests.send (a) {Event.objects.get().key} dead in ")
        assert vars(line)["target"] == "a"

    def test_is_retried_alone(self):
        sent = send_to_each(a=PermanentFailure("gone"))
        emit_orders(1)
        run_all()

        operations.retry(operations.Choice(handler="tests.send"), by="ann", reason="back again")
        run_all()

        assert sorted(target for target, _number in sent) == ["a", "a", "b"]


class TestFindingTargets:
    def test_is_one_transaction_with_its_receipt(self):
        sent = send_to_each()
        emit_orders(1)
        [message] = run_pass()

        with failpoints.armed(failpoints.BEFORE_RECEIPT, die), pytest.raises(Died):
            run_message(message)
        assert states_by_target() == {"": "sent"}
        expire_leases_and_backoffs()
        run_all()
        expire_leases_and_backoffs()
        run_all()

        assert sorted(sent) == [("a", 0), ("b", 0)]

    def test_again_by_a_replay_reaches_new_targets_only(self):
        sent = send_to_each()
        emit_orders(1)
        run_all()
        Group.objects.create(name="c")
        finding = Delivery.objects.get(target="")

        operations.replay(operations.Choice(ids=(finding.pk,)), by="ann", reason="new target")
        run_all()

        assert [target for target, _number in sent][-1:] == ["c"]
        assert len(sent) == 3

    def test_fails_like_a_handler(self):
        def no_targets(order_id: UUID) -> Iterable[str]:
            raise PermanentFailure("no such order")

        @subscribe("shops.Ordered", targets=no_targets)
        def send(target: str) -> None: ...

        emit_orders(1)

        run_all()

        assert states_by_target() == {"": "dead"}

    @pytest.mark.parametrize("wrong", ["", "x" * 201, 7])
    def test_refuses_names_that_cannot_be_stored(self, wrong: object):
        def targets(order_id: UUID) -> Iterable[str]:
            return [wrong]  # type: ignore[list-item]

        @subscribe("shops.Ordered", targets=targets)
        def send(target: str) -> None: ...

        emit_orders(1)

        run_all()

        assert states_by_target() == {"": "dead"}
        assert "Return texts of 1 to 200 characters" in Attempt.objects.get().message


class TestAShare:
    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            (Target("a", share="x" * 101), "Return a text of 1 to 100 characters"),
            (Target("a", share=7), "Return a text of 1 to 100 characters"),  # type: ignore[arg-type]
            (Target("a", share=""), "Return a text of 1 to 100 characters"),
            (Target("a", share="a\x00"), "share"),
            (Target("a\x00"), "target"),
        ],
    )
    def test_that_cannot_be_stored_is_refused(self, wrong: Target, text: str):
        """Failed: SQLite stored it, and PostgreSQL raised 45 database errors."""

        @subscribe("shops.Ordered", targets=lambda: [wrong])
        def send(target: str) -> None: ...

        emit_orders(1)

        run_all()

        assert states_by_target() == {"": "dead"}
        assert text in Attempt.objects.get().message

    def test_of_a_target_limits_its_deliveries_in_flight(self):
        def targets(order_id: UUID) -> Iterable[Target]:
            return [Target("a1", share="a"), Target("a2", share="a"), Target("b1", share="b")]

        @subscribe("shops.Ordered", targets=targets, share_window=1)
        def send(target: str) -> None: ...

        emit_orders(1)
        run_messages(run_pass())

        run_pass()

        in_flight = Delivery.objects.filter(state="sent").values_list("share", flat=True)
        assert sorted(in_flight, key=str) == ["a", "b"]

    def test_stays_if_two_names_of_the_handler_are_joined(self):
        """Failed: the shares of targets were replaced by the share of the event."""
        send_to_owner()
        emit_orders(1)
        run_messages(run_pass())
        for formerly in ([], ["tests.send"]):
            subscriptions.registry.clear()
            send_to_owner(name="tests.deliver", formerly=formerly)
            join_names(using="default")
            sync_subscriptions()

        owed = Delivery.objects.filter(subscription__handler="tests.deliver")
        assert owed.get(target="a").share == "owner:a"


def send_to_owner(**policy: Any) -> None:
    @subscribe(
        "shops.Ordered",
        targets=lambda: [Target("a", share="owner:a")],
        share_window=1,
        **{"name": "tests.send", **policy},
    )
    def send(target: str) -> None: ...


class TestABulkHandler:
    def test_gets_the_target_of_each_delivery(self):
        found: list[str] = []

        @subscribe("shops.Ordered", targets=stored_names, bulk=True)
        def export(deliveries: Sequence[BulkDelivery]) -> None:
            for one in deliveries:
                found.append(one.target)
                one.done()

        emit_orders(1)

        run_all()

        assert sorted(found) == ["a", "b"]


class Down(Exception):
    """The external system is down."""


class TestABreaker:
    """It counts calls of the external system. A delivery that finds targets makes none."""

    @pytest.fixture
    def calls(self) -> list[str]:
        calls: list[str] = []
        breaker = Breaker(on=(Down,), failures=2, wait=30)

        @subscribe("shops.Ordered", targets=lambda: ["a"], atomic=False, breaker=breaker)
        def send(target: str, receipt: Receipt) -> None:
            calls.append(target)
            raise Down

        return calls

    def test_opens_although_targets_are_found_between_failures(self, calls: list[str]):
        for _ in range(4):
            emit_orders(1)
            run_messages(run_pass())
            run_messages(run_pass())

        assert len(calls) == 2
        assert Subscription.objects.get().breaker_opened_at is not None

    def test_stays_open_if_its_probe_finds_targets(self, calls: list[str]):
        emit_orders(2)
        run_messages(run_pass())
        run_messages(run_pass())
        emit_orders(1)
        run_pass()
        Delivery.objects.exclude(target="").update(due_at=timezone.now() + timedelta(hours=1))
        Subscription.objects.update(breaker_probe_at=timezone.now())

        run_messages(run_pass())

        row = Subscription.objects.get()
        assert len(calls) == 2
        assert row.breaker_opened_at is not None
        assert row.breaker_probe_at is not None
        assert row.breaker_probe_at <= timezone.now()


class TestAnEndedSubscription:
    def test_gets_no_targets(self):
        """It ended while its targets were found, so nothing would ever send them."""

        def find(order_id: UUID) -> Iterable[str]:
            Subscription.objects.update(active=False)
            return ["a"]

        @subscribe("shops.Ordered", targets=find)
        def send(target: str) -> None: ...

        emit_orders(1)

        run_messages(run_pass())

        assert states_by_target() == {"": "done"}


class TestAnOlderRelease:
    def test_does_not_run_its_function_for_each_target(self):
        send_to_each()
        emit_orders(1)
        run_messages(run_pass())
        messages = run_pass()
        subscriptions.registry.clear()
        calls: list[int] = []

        @subscribe("shops.Ordered", "shops.Returned")
        def send(number: int) -> None:
            calls.append(number)

        run_messages(messages)

        assert calls == []
        assert states_by_target() == {"": "done", "a": "pending", "b": "pending"}


class TestTheSignature:
    def test_has_the_target(self):
        with pytest.raises(TypeError, match="if and only if"):

            @subscribe("shops.Ordered", targets=stored_names)
            def send(order_id: UUID) -> None: ...

    def test_has_no_target_without_targets(self):
        with pytest.raises(TypeError, match="if and only if"):

            @subscribe("shops.Ordered")
            def send(target: str) -> None: ...

    def test_is_not_ordered(self):
        with pytest.raises(TypeError, match="side by side"):

            @subscribe("shops.Ordered", targets=stored_names, ordered=True)
            def send(target: str) -> None: ...


class Noted(DomainEvent, key="order_id"):
    order_id: UUID
    note: str


class TestACorrection:
    def test_is_delivered_only_to_the_target_of_the_dead_delivery(self):
        sent: list[tuple[str, str]] = []

        @subscribe("tests.Noted", targets=lambda: ["a", "b"])
        def send(target: str, note: str) -> None:
            if (target, note) == ("a", "wrong"):
                raise PermanentFailure("not accepted")
            sent.append((target, note))

        Outbox().given("tests.Noted", order_id=uuid4(), note="wrong")
        run_all()
        dead = Delivery.objects.get(state="dead")

        payload = {**dead.event.payload, "note": "right"}
        operations.correct(dead.pk, payload, by="ann", reason="typing error")
        run_all()

        assert sent == [("b", "wrong"), ("a", "right")]

    def test_has_the_share_of_the_target(self):
        """Failed: the corrected delivery had the share of the event."""

        @subscribe("tests.Noted", targets=lambda: [Target("a", share="owner:a")], share_window=1)
        def send(target: str, note: str) -> None:
            if note == "wrong":
                raise PermanentFailure("not accepted")

        Outbox().given("tests.Noted", order_id=uuid4(), note="wrong")
        run_all()
        dead = Delivery.objects.get(state="dead")

        payload = {**dead.event.payload, "note": "right"}
        operations.correct(dead.pk, payload, by="ann", reason="typing error")

        shares = Delivery.objects.filter(target="a").values_list("share", flat=True)
        assert set(shares) == {"owner:a"}

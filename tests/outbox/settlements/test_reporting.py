"""A source with SETTLES_AS reports each event once, when all its deliveries are settled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models import F
from pytest_django import Settings

from outbox import PermanentFailure, operations, subscribe
from outbox.models import Delivery, Event, Received, SettlementReport
from outbox.relay.passes import Pace, relay
from outbox.settlements import reporting
from outbox.sources.configuration import SourceConfig
from outbox.sources.forgetting import forget_received
from outbox.sources.storing import store
from outbox.subscriptions import find
from outbox.testing import Outbox
from tests.outbox.drive import run_messages, run_pass
from tests.outbox.settlements.world import make_reports_due, publish, report_message
from tests.outbox.sources.messages import (
    ORDER,
    configure,
    declare_invoice_paid,
    message,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def billing(own_registry: None, settings: Settings) -> SourceConfig:
    """A source whose events this project settles as "shop"."""
    declare_invoice_paid()
    return configure(settings, SETTLES_AS="shop")


@pytest.fixture
def two_handlers(billing: SourceConfig) -> list[Exception]:
    """Subscribe two handlers. The second one raises the errors in this list first."""
    errors: list[Exception] = []

    @subscribe("billing.InvoicePaid", name="tests.one")
    def one(order_id: UUID) -> None: ...

    @subscribe("billing.InvoicePaid", name="tests.two")
    def two(order_id: UUID) -> None:
        if errors:
            raise errors.pop()

    Outbox()
    return errors


def pass_again() -> None:
    make_reports_due()
    publish()


def reported() -> list[dict[str, str]]:
    """Return the payloads of the reports, in their order."""
    rows = Event.objects.filter(name="outbox.Settled").order_by("seq")
    return list(rows.values_list("payload", flat=True))


def forget_all() -> None:
    """Delete the ids of all messages, as after `DEDUPLICATION_DAYS`."""
    Received.objects.update(received_at=F("received_at") - timedelta(days=31))
    assert forget_received(at_most=timedelta(seconds=60)) == 1


REPORT = {"event": "id-1", "consumer": "shop"}


class TestAnEventOfASource:
    def test_without_handlers_is_settled_at_once(self, billing: SourceConfig):
        Outbox()
        store(billing, [message()])

        publish()
        pass_again()

        assert reported() == [REPORT]

    def test_is_settled_when_the_last_delivery_is(self, billing, two_handlers):
        store(billing, [message()])
        one, two = run_pass()

        run_messages([one])
        pass_again()
        assert reported() == []

        run_messages([two])
        pass_again()
        assert reported() == [REPORT]

    def test_is_reported_once(self, billing, two_handlers):
        store(billing, [message()])
        for _ in range(3):
            pass_again()

        store(billing, [message()])
        operations.replay(operations.Choice(handler="tests.one"), by="ann", reason="again")
        for _ in range(3):
            pass_again()

        assert reported() == [REPORT]

    def test_causes_its_report(self, billing, two_handlers):
        store(billing, [message()])
        pass_again()
        pass_again()

        event = Event.objects.get(name="billing.InvoicePaid")
        settled = Event.objects.get(name="outbox.Settled")
        assert (settled.causation_id, settled.correlation_id) == (event.id, event.correlation_id)

    def test_with_a_dead_delivery_is_not_settled(self, billing, two_handlers):
        two_handlers.append(PermanentFailure("no such order"))
        store(billing, [message()])

        publish()
        pass_again()

        assert list(Delivery.objects.order_by("id").values_list("state", flat=True)) == [
            "done",
            "dead",
        ]
        assert reported() == []

    @pytest.mark.parametrize("action", [operations.retry, operations.discard])
    def test_is_settled_when_its_dead_delivery_is(self, billing, two_handlers, action: Callable):
        two_handlers.append(PermanentFailure("no such order"))
        store(billing, [message()])
        publish()

        action(operations.Choice(handler="tests.two"), by="ann", reason="looked at it")
        pass_again()
        pass_again()

        assert reported() == [REPORT]

    def test_whose_dead_delivery_is_corrected_waits_for_the_correction(self, billing, two_handlers):
        two_handlers += [PermanentFailure("again"), PermanentFailure("no such order")]
        store(billing, [message()])
        publish()

        dead = Delivery.objects.get(state="dead")
        operations.correct(dead.pk, dict(dead.event.payload), by="ann", reason="wrong")
        pass_again()
        assert reported() == []

        operations.retry(operations.Choice(handler="tests.two"), by="ann", reason="deployed")
        pass_again()
        pass_again()
        assert reported() == [REPORT]

    def test_of_a_source_without_the_setting_is_not_reported(self, own_registry, settings):
        declare_invoice_paid()
        store(configure(settings), [message()])
        Outbox()

        publish()
        pass_again()

        assert not SettlementReport.objects.exists()
        assert reported() == []


class TestAMessageOfAnUnknownType:
    def test_that_is_kept_is_settled(self, own_registry, settings: Settings):
        from outbox.sources.reading_again import subscribe_reader

        billing = configure(settings, SETTLES_AS="shop")
        subscribe_reader()
        Outbox()
        store(billing, [message(type="com.example.other")])

        publish()
        pass_again()

        assert reported() == [REPORT]

    def test_that_is_dropped_is_settled_once(self, own_registry, settings: Settings):
        billing = configure(settings, SETTLES_AS="shop", UNKNOWN="drop")
        Outbox()

        counts = store(billing, [message(type="com.example.other")])
        publish()
        again = store(billing, [message(type="com.example.other")])
        publish()

        assert (counts["dropped"], again["duplicates"]) == (1, 1)
        assert reported() == [REPORT]

    def test_that_is_dropped_is_forgotten_with_its_id(self, own_registry, settings: Settings):
        billing = configure(settings, SETTLES_AS="shop", UNKNOWN="drop")
        Outbox()
        store(billing, [message(type="com.example.other")])
        publish()

        forget_all()

        assert not SettlementReport.objects.exists()


class TestARequestedReplay:
    def test_is_reported_once_more(self, billing, two_handlers):
        """The first report may be lost, and the event is not processed again."""
        store(billing, [message()])
        for _ in range(2):
            pass_again()

        for _ in range(2):
            store(billing, [message(replay="1")])
            for _ in range(2):
                pass_again()

        assert reported() == [REPORT, REPORT]
        assert Event.objects.filter(name="billing.InvoicePaid").count() == 1

    def test_before_the_event_is_settled_is_not_reported_twice(self, billing, two_handlers):
        store(billing, [message()])
        store(billing, [message(replay="1")])

        for _ in range(3):
            pass_again()

        assert reported() == [REPORT]

    def test_that_brings_the_event_first_is_reported_once(self, billing, two_handlers):
        for _ in range(2):
            store(billing, [message(replay="2")])
            for _ in range(2):
                pass_again()

        assert reported() == [REPORT]

    def test_of_an_event_from_before_the_setting_is_reported(self, own_registry, settings):
        """An earlier release had received it, or the source had no SETTLES_AS."""
        declare_invoice_paid()
        store(configure(settings), [message()])
        Outbox()
        publish()

        for _ in range(2):
            store(configure(settings, SETTLES_AS="shop"), [message(replay="1")])
            pass_again()

        assert reported() == [REPORT]

    def test_of_an_event_from_before_the_setting_waits_for_its_deliveries(self, settings, billing):
        @subscribe("billing.InvoicePaid", name="tests.dies")
        def dies(order_id: UUID) -> None:
            raise PermanentFailure("no such order")

        Outbox()
        store(configure(settings), [message()])
        publish()

        store(configure(settings, SETTLES_AS="shop"), [message(replay="1")])
        pass_again()

        assert reported() == []

    def test_of_a_pruned_event_is_reported(self, billing, two_handlers):
        store(billing, [message()])
        for _ in range(2):
            pass_again()
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(days=400))
        assert operations.prune(older_than=timedelta(days=365)) == 2

        store(billing, [message(replay="1")])
        pass_again()

        assert reported() == [REPORT]

    def test_after_its_id_was_forgotten_is_processed_and_reported_again(self, billing):
        Outbox()
        store(billing, [message()])
        for _ in range(2):
            pass_again()
        forget_all()

        store(billing, [message(replay="1")])
        for _ in range(2):
            pass_again()

        assert reported() == [REPORT, REPORT]

    def test_of_a_pruned_event_leaves_no_row_behind(self, billing, two_handlers):
        store(billing, [message()])
        for _ in range(2):
            pass_again()
        Event.objects.update(emitted_at=F("emitted_at") - timedelta(days=400))
        operations.prune(older_than=timedelta(days=365))
        store(billing, [message(replay="1")])
        pass_again()

        forget_all()

        assert not SettlementReport.objects.exists()

    def test_in_a_batch_with_a_late_first_message_is_reported(self, billing, two_handlers):
        store(billing, [message()])
        for _ in range(2):
            pass_again()

        store(billing, [message(replay="1"), message()])
        pass_again()

        assert reported() == [REPORT, REPORT]

    @pytest.mark.parametrize("given", ["", "-1", "one", "99999999999999999999", True])
    def test_without_a_number_is_a_duplicate(self, billing, two_handlers, given: object):
        for replay in ("", given):
            store(billing, [message(replay=replay)])
            for _ in range(2):
                pass_again()

        assert reported() == [REPORT]


class TestAMessageThatCannotBeRead:
    def test_is_settled_when_its_corrected_event_is(self, billing, two_handlers):
        from outbox.sources.reading_again import subscribe_reader
        from outbox.sources.unreadable import HANDLER

        subscribe_reader()
        Outbox()
        assert find(HANDLER) is not None
        store(billing, [message(data={"order_id": str(ORDER)})])
        publish()
        pass_again()
        assert reported() == []

        dead = Delivery.objects.get(state="dead")
        body = dead.event.payload["body"].replace("}}", ', "amount": "1"}}')
        payload = {**dead.event.payload, "body": body}
        operations.correct(dead.pk, payload, by="ann", reason="the amount was missing")
        run_messages(run_pass())
        make_reports_due()
        deliveries = run_pass()
        assert reported() == []

        run_messages(deliveries)
        pass_again()
        pass_again()
        assert reported() == [REPORT]


class TestAReport:
    def test_is_never_reported_itself(self, billing: SourceConfig):
        Outbox()
        store(billing, [report_message("0190a6c0-0000-7000-8000-000000000001")])

        publish()
        pass_again()

        assert not SettlementReport.objects.exists()
        assert not Event.objects.exists()


class TestARelay:
    def test_reports_page_after_page_under_steady_traffic(self, billing, monkeypatch):
        """Each pass is nudged. A page per poll would fall behind a source without limit."""
        Outbox()
        store(billing, [message(number) for number in range(6)])
        publish()
        make_reports_due()
        monkeypatch.setattr(reporting, "_PAGE", 2)
        passes = iter([True, True, True, False])

        relay(
            publish=lambda message: None,
            is_wanted=lambda: next(passes),
            pace=Pace(lambda seconds: True),
        )

        assert len(reported()) == 6

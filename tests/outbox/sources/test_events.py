"""External events are named after their source, and read tolerantly."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import pytest
from django.core.checks import CheckMessage
from django.db import transaction
from pydantic import Field, ValidationError

from outbox import emit, subscribe
from outbox.checks import check_contracts, check_names, check_settings
from outbox.contracts import lock
from outbox.contracts.catalogue import catalogue
from outbox.contracts.rehearsal import rehearse
from outbox.models import Event
from outbox.sources import ExternalEvent
from outbox.sources.configuration import configured
from outbox.sources.storing import store
from outbox.testing import Outbox

from .messages import ORDER, PAID, configure, declare_invoice_paid, message, new_order

T = TypeVar("T")


@pytest.fixture(autouse=True)
def billing(own_registry, settings):
    return configure(settings)


def ids(found: list[CheckMessage]) -> list[str | None]:
    return [one.id for one in found]


class TestAnExternalEvent:
    def test_is_named_after_its_source(self):
        event = declare_invoice_paid()

        assert event.event_name == "billing.InvoicePaid"
        assert (event.event_source, event.event_type) == ("billing", PAID)

    def test_ignores_fields_that_it_does_not_declare(self):
        event = declare_invoice_paid()(**new_order(), vat=7)

        assert "vat" not in event.model_dump()

    def test_is_immutable(self):
        event = declare_invoice_paid()(**new_order())

        with pytest.raises(ValidationError):
            event.amount = 7  # type: ignore[attr-defined]  # that is the test

    def test_cannot_be_emitted(self):
        event = declare_invoice_paid()(**new_order())

        with pytest.raises(TypeError, match="only the source billing"), transaction.atomic():
            emit(event)

    def test_cannot_be_emitted_as_a_subclass(self):
        """Failed: a subclass without `source` had the name of its parent, and `emit` stored it."""

        class Sent(ExternalEvent, source="billing", type="sent", key="number"):
            number: int

        class SentTwice(Sent):
            pass

        with pytest.raises(TypeError, match="SentTwice is abstract"), transaction.atomic():
            emit(SentTwice(number=7))

    def test_cannot_be_emitted_with_type_arguments(self):
        """Failed: likewise."""

        class Sent(ExternalEvent, Generic[T], source="billing", type="sent", key="number"):
            number: T

        with pytest.raises(TypeError, match="only the source billing"), transaction.atomic():
            emit(Sent[int](number=7))

    def test_becomes_a_dead_letter_if_its_key_is_none(self, billing):
        class Sent(ExternalEvent, source="billing", type="sent", key="number"):
            number: int | None = None

        store(billing, [message(type="sent", data={})])

        assert Event.objects.get().name == "outbox.UnreadableMessageReceived"

    @pytest.mark.parametrize("given", [{}, {"source": "billing"}, {"type": "x"}])
    def test_needs_source_and_type(self, given: dict[str, Any]):
        with pytest.raises(TypeError, match="needs source= and type="):

            class Broken(ExternalEvent, key="id", **given):
                id: str

    def test_may_read_a_field_under_another_name(self, billing):
        class Sent(ExternalEvent, source="billing", type="sent", key="number"):
            number: int = Field(alias="invoiceNumber")

        store(billing, [message(type="sent", data={"invoiceNumber": 7})])

        event = Event.objects.get()
        assert (event.name, event.key, event.payload) == ("billing.Sent", "7", {"number": 7})

    def test_may_be_abstract(self):
        class Base(ExternalEvent):
            number: int

        class Sent(Base, source="billing", type="sent", key="number"):
            pass

        assert Base.event_name == ""
        assert Sent.event_name == "billing.Sent"

    def test_is_in_the_catalogue_with_its_handlers(self):
        declare_invoice_paid()

        @subscribe("billing.InvoicePaid", name="tests.settle")
        def settle(order_id: str) -> None:
            pass

        [entry] = [one for one in catalogue() if one.name == "billing.InvoicePaid"]
        assert [one.name for one in entry.handlers] == ["tests.settle"]

    def test_is_recorded_in_the_lock_of_the_app_that_declares_it(self):
        event = declare_invoice_paid()

        assert lock.label_of(event) == "tests"

    def test_is_rehearsed(self, billing):
        declare_invoice_paid()

        @subscribe("billing.InvoicePaid", name="tests.settle")
        def settle(order_id: int) -> None:
            pass

        Outbox()
        store(billing, [message()])

        [problem] = rehearse().problems
        assert (problem.handler, problem.event) == ("tests.settle", "billing.InvoicePaid")

    def test_is_given_by_the_test_kit(self):
        declare_invoice_paid()

        row = Outbox().given("billing.InvoicePaid", order_id=ORDER, amount=1)

        assert row.name == "billing.InvoicePaid"


class TestTheChecks:
    def test_accept_a_proper_event_and_its_handler(self):
        declare_invoice_paid()

        @subscribe("billing.InvoicePaid", name="tests.settle")
        def settle(order_id: str, amount: str) -> None:
            pass

        assert ids(check_names()) == []
        assert [one for one in check_contracts() if "Invoice" in one.msg] == []

    def test_find_a_handler_that_does_not_fit(self):
        declare_invoice_paid()

        @subscribe("billing.InvoicePaid", name="tests.settle")
        def settle(invoice: str) -> None:
            pass

        assert "outbox.E002" in ids(check_contracts())

    def test_find_an_event_of_a_source_that_is_not_configured(self):
        class Sent(ExternalEvent, source="biling", type="sent", key="number"):
            number: int

        [found] = check_names()
        assert (found.id, found.hint) == ("outbox.W022", "Did you mean billing?")

    def test_find_two_events_of_one_type(self):
        declare_invoice_paid()

        class Settled(ExternalEvent, source="billing", type=PAID, key="number"):
            number: int

        assert ids(check_names()) == ["outbox.E029"]

    def test_find_a_source_with_the_label_of_an_app(self, settings):
        given = settings.OUTBOX["SOURCES"]["billing"]
        settings.OUTBOX = {**settings.OUTBOX, "SOURCES": {"freight": given}}

        [found] = check_settings()
        assert found.id == "outbox.E028"
        assert "installed app" in found.msg


INVALID: dict[str, tuple[str, Any, str]] = {
    "no dict": ("billing", None, "must be a dict"),
    "a name with a dot": ("billing.eu", {}, "invalid name"),
    "a name with a hyphen": ("bill-ing", {}, "invalid name"),
    "no backend": ("billing", {"BACKEND": ""}, "BACKEND"),
    "a backend that does not exist": ("billing", {"BACKEND": "a.b"}, "cannot be imported"),
    "a backend that is no source": ("billing", {"BACKEND": "json.JSONDecoder"}, "no subclass"),
    "no topics": ("billing", {"TOPICS": []}, "TOPICS"),
    "one topic as a text": ("billing", {"TOPICS": "invoices"}, "TOPICS"),
    "an unknown key": ("billing", {"TOPIC": "x"}, "TOPICS"),
    "no mapper": ("billing", {"MAPPER": "json.nothing"}, "MAPPER"),
    "no choice": ("billing", {"UNKNOWN": "raise"}, "UNKNOWN"),
    "no number": ("billing", {"MAX_BACKLOG": 0}, "MAX_BACKLOG"),
    "no size": ("billing", {"MAX_BYTES": "1 MB"}, "MAX_BYTES"),
    "no days": ("billing", {"DEDUPLICATION_DAYS": 0}, "a number of days above zero"),
    "endless days": ("billing", {"DEDUPLICATION_DAYS": float("inf")}, "at most a hundred years"),
    "too many days": ("billing", {"DEDUPLICATION_DAYS": 10**6}, "at most a hundred years"),
    "Kafka without a group": (
        "billing",
        {"BACKEND": "outbox.sources.kafka.KafkaSource", "GROUP": ""},
        "GROUP",
    ),
}


class TestTheSettings:
    @pytest.mark.parametrize(("name", "changed", "named"), INVALID.values(), ids=INVALID)
    def test_are_refused_by_the_check_with_one_sentence(self, settings, name, changed, named):
        proper = {**settings.OUTBOX["SOURCES"]["billing"], "OPTIONS": {"password": "hunter2"}}
        given = None if changed is None else {**proper, **changed}
        settings.OUTBOX = {**settings.OUTBOX, "SOURCES": {name: given}}

        [found] = check_settings()

        assert found.id == "outbox.E012"
        assert named in found.msg
        assert "hunter2" not in found.msg

    def test_hide_the_options(self, settings):
        configure(settings, OPTIONS={"password": "hunter2"})

        assert "hunter2" not in repr(configured())

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

import re
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from outbox import DomainEvent, subscribe, subscriptions
from outbox.checks import check_contracts
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Subscription
from outbox.subscriptions import LONGEST_NAME, LONGEST_QUEUE
from outbox.testing import Outbox


class Unkeyed(DomainEvent):
    parcel_id: UUID


@pytest.fixture
def parcel_sent(own_registry: None) -> type[DomainEvent]:
    class ParcelSent(DomainEvent, key="parcel_id"):
        """A parcel left the house."""

        parcel_id: UUID

    return ParcelSent


class TestSubscribeWithTheClassOfAnEvent:
    def test_subscribes_to_its_name(self, parcel_sent):
        @subscribe(parcel_sent)
        def file_parcel(parcel_id: UUID): ...

        assert subscriptions.registry[0].events == ("tests.ParcelSent",)
        assert check_contracts() == []

    def test_takes_names_and_classes(self, parcel_sent):
        @subscribe("tests.ParcelSent", parcel_sent)
        def file_parcel(parcel_id: UUID): ...

        assert subscriptions.registry[0].events == ("tests.ParcelSent", "tests.ParcelSent")

    def test_delivers_its_events(self, parcel_sent):
        seen = []

        @subscribe(parcel_sent)
        def file_parcel(parcel_id: UUID):
            seen.append(parcel_id)

        parcel_id = uuid4()
        outbox = Outbox()
        outbox.given("tests.ParcelSent", parcel_id=parcel_id)
        outbox.deliver_all()

        assert seen == [parcel_id]

    def test_refuses_an_abstract_class(self):
        with pytest.raises(TypeError, match=r"Unkeyed is abstract .* Declare its key") as refused:
            subscribe(Unkeyed)

        assert 'class Unkeyed(DomainEvent, key="...")' in str(refused.value)


class TestEarlierNames:
    def test_are_no_text(self, own_registry):
        """It became a tuple of letters: the deliveries of the earlier name were parked."""
        with pytest.raises(TypeError) as refused:

            @subscribe("tests.ParcelSent", name="tests.new_name", formerly="tests.old_name")
            def file_parcel(parcel_id: UUID): ...

        assert str(refused.value) == (
            'tests.new_name: formerly= is a text. Write a list: formerly=["tests.old_name"].'
        )
        assert subscriptions.registry == []


class TestAWrongLeaseOfTheSettings:
    """`manage.py check` reports it. So it must not prevent that the handlers are imported."""

    @pytest.mark.parametrize("wrong", ["600", 0, -5, None, 1e12, float("inf"), float("nan")])
    def test_is_replaced_by_the_default(self, own_registry, settings, wrong):
        settings.OUTBOX = {"LEASE_SECONDS": wrong}

        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id: UUID): ...

        [handler] = subscriptions.registry
        assert (handler.lease, handler.time_limit) == (60, 54)

    def test_is_no_error_of_a_handler_that_needs_a_longer_one(self, own_registry, settings):
        settings.OUTBOX = {"LEASE_SECONDS": "600"}

        @subscribe("tests.ParcelSent", time_limit=450)
        def file_parcel(parcel_id: UUID): ...

        [handler] = subscriptions.registry
        assert (handler.lease, handler.time_limit) == (500, 450)


class Line(BaseModel):
    price: int = Field(alias="unitPrice")
    discount: int = Field(0, alias="unitDiscount")


class TestAModelWithAliases:
    """A payload is stored by the names of fields."""

    @pytest.fixture(autouse=True)
    def billed(self, own_registry: None) -> type[DomainEvent]:
        class Billed(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            lines: list[Line]
            totals: dict[str, int]

        return Billed

    def deliver(self) -> None:
        outbox = Outbox()
        lines = [{"unitPrice": 5, "unitDiscount": 2}]
        totals = {"net": 3, "amountDue": 4}
        outbox.given("tests.Billed", parcel_id=uuid4(), lines=lines, totals=totals)
        outbox.deliver_all()

    def test_is_read_if_it_is_the_one_of_the_event(self):
        """Failed: "unitPrice: the event does not carry it"; without it the discount was 0."""
        seen: list[Line] = []

        @subscribe("tests.Billed")
        def note_lines(lines: list[Line]):
            seen.extend(lines)

        assert check_contracts() == []
        self.deliver()
        assert seen == [Line(unitPrice=5, unitDiscount=2)]

    def test_is_read_by_its_alias_if_the_event_has_both_names(self):
        class Totals(BaseModel):
            net: int = Field(alias="amountDue")

        seen: list[int] = []

        @subscribe("tests.Billed")
        def note_net(totals: Totals):
            seen.append(totals.net)

        self.deliver()
        assert seen == [4]

    def test_is_reported_if_the_event_has_neither_name(self):
        class HeavyLine(BaseModel):
            weight: int = Field(alias="unitWeight")

        @subscribe("tests.Billed")
        def weigh(lines: list[HeavyLine]): ...

        [found] = check_contracts()

        assert found.id == "outbox.E003"
        assert "lines[].unitWeight: the event does not carry it" in found.msg


class TestSubscribeWithoutAnEvent:
    def test_without_parentheses_names_the_handler_and_the_fix(self, own_registry):
        with pytest.raises(TypeError) as refused:

            @subscribe  # type: ignore[arg-type]  # on purpose
            def file_parcel(parcel_id: UUID): ...

        text = str(refused.value)
        assert "@subscribe above tests.outbox.test_subscribe." in text
        assert "file_parcel names no event" in text
        assert '@subscribe("orders.OrderPlaced")' in text
        assert subscriptions.registry == []

    def test_with_empty_parentheses_names_the_fix(self, own_registry):
        with pytest.raises(TypeError, match=re.escape('Name one: @subscribe("app.Event")')):

            @subscribe()
            def file_parcel(parcel_id: UUID): ...

        assert subscriptions.registry == []

    @pytest.mark.parametrize("given", [["tests.ParcelSent"], None, 7, dict])
    def test_refuses_any_other_object(self, own_registry, given):
        with pytest.raises(TypeError, match="an event is a text or a class") as refused:
            subscribe(given)

        assert repr(given) in str(refused.value)


class TestSubscribeWithLongNames:
    """Failed: `migrate` ended with a DataError on PostgreSQL, and not on SQLite."""

    @pytest.mark.django_db
    def test_accepts_names_that_the_columns_can_store(self, own_registry):
        @subscribe("tests.ParcelSent", name="h" * LONGEST_NAME, queue="q" * LONGEST_QUEUE)
        def file_parcel(): ...

        sync_subscriptions()

        assert len(Subscription.objects.get().handler) == LONGEST_NAME
        assert Subscription._meta.get_field("handler").max_length == LONGEST_NAME
        assert Subscription._meta.get_field("queue").max_length == LONGEST_QUEUE

    @pytest.mark.parametrize(
        ("longer", "what"),
        [
            (
                {"name": "h" * 151},
                "The name of the handler h+ has 151 characters; the limit is 150",
            ),
            ({"queue": "q" * 101}, "file_parcel: queue=.* has 101 characters; the limit is 100"),
        ],
    )
    def test_refuses_longer_names(self, own_registry, longer, what):
        with pytest.raises(ValueError, match=what):

            @subscribe("tests.ParcelSent", **longer)
            def file_parcel(): ...

        assert subscriptions.registry == []

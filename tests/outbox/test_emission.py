from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase
from pydantic import create_model
from pydantic_core import PydanticSerializationError
from uuid_utils.compat import uuid7

from outbox import DomainEvent, NotInTransaction, acting_as, emit, subscribe
from outbox.events import LAST_VERSION
from outbox.models import DelayedEvent, Delivery, Event
from outbox.storable import UnstorableValue
from outbox.testing import Outbox


class ParcelSent(DomainEvent, key="parcel_id"):
    """A parcel left the house."""

    parcel_id: UUID
    note: str = ""


class Unkeyed(DomainEvent):
    parcel_id: UUID


class ExpressParcelSent(ParcelSent):
    driver: str = ""


class Kind(Enum):
    PARCEL = "parcel"


T = TypeVar("T")


class TestEmit:
    @pytest.mark.django_db(transaction=True)
    def test_outside_a_transaction_raises_and_stores_nothing(self):
        with pytest.raises(NotInTransaction, match=r"transaction\.atomic"):
            emit(ParcelSent(parcel_id=uuid4()))

        assert not Event.objects.exists()

    @pytest.mark.django_db
    def test_outside_a_transaction_raises_even_within_the_transaction_of_a_test(self):
        with pytest.raises(NotInTransaction):
            emit(ParcelSent(parcel_id=uuid4()))

    @pytest.mark.django_db(transaction=True)
    def test_is_rolled_back_with_its_transaction(self):
        with pytest.raises(IntegrityError), transaction.atomic():
            emit(ParcelSent(parcel_id=uuid4()))
            raise IntegrityError

        assert not Event.objects.exists()

    @pytest.mark.django_db
    def test_stores_the_facts(self):
        parcel_id = uuid7()

        with transaction.atomic():
            event_id = emit(ParcelSent(parcel_id=parcel_id, note="fragile"))

        row = Event.objects.get(id=event_id)
        assert (row.name, row.version, row.key) == ("tests.ParcelSent", 1, str(parcel_id))
        assert row.payload == {"parcel_id": str(parcel_id), "note": "fragile"}
        assert row.fanned_out_at is None

    @pytest.mark.django_db
    def test_costs_one_statement(self, django_assert_num_queries):
        with transaction.atomic(), django_assert_num_queries(1):
            emit(ParcelSent(parcel_id=uuid4()))

    @pytest.mark.django_db
    def test_takes_the_actor_from_the_context(self):
        with acting_as("job:sweep"), transaction.atomic():
            first = emit(ParcelSent(parcel_id=uuid4()))
            second = emit(ParcelSent(parcel_id=uuid4()))

        rows = Event.objects.filter(id__in=[first, second])
        assert {row.actor for row in rows} == {"job:sweep"}
        assert len({row.correlation_id for row in rows}) == 1

    @pytest.mark.django_db
    def test_refuses_an_event_without_a_key(self):
        with transaction.atomic(), pytest.raises(TypeError, match="is abstract"):
            emit(Unkeyed(parcel_id=uuid4()))


class TestEmitInATestCase(TestCase):
    def test_requires_an_explicit_transaction(self):
        assert connection.in_atomic_block

        with self.assertRaises(NotInTransaction):
            emit(ParcelSent(parcel_id=uuid4()))


class TestDomainEvent:
    def test_refuses_a_key_that_is_not_a_field(self):
        with pytest.raises(TypeError, match="key='parcel' is not a field"):

            class Lost(DomainEvent, key="parcel"):
                parcel_id: UUID

    def test_refuses_a_field_that_hides_a_fact(self):
        with pytest.raises(TypeError, match="correlation_id is the name of a fact"):

            class Lost(DomainEvent, key="parcel_id"):
                parcel_id: UUID
                correlation_id: UUID

    @pytest.mark.parametrize(
        "name", ["event_name", "event_version", "event_key", "subject_name", "in_words"]
    )
    @pytest.mark.filterwarnings("ignore:Field name")
    def test_refuses_a_field_that_hides_an_attribute_of_its_class(
        self, own_registry: None, name: str
    ):
        """Failed: an event with a field `event_name` was stored under the name in that field."""
        fields: dict[str, Any] = {"parcel_id": (UUID, ...), name: (str, "")}

        with pytest.raises(TypeError, match=f"{name} is the name of an attribute that every event"):
            create_model(
                "Lost", __base__=DomainEvent, __cls_kwargs__={"key": "parcel_id"}, **fields
            )

    @pytest.mark.parametrize("version", [0, -1, 32_768, 20_261_101, "2", 1.0, True, None])
    def test_refuses_a_version_that_the_column_cannot_store(self, own_registry: None, version: Any):
        """Failed: PostgreSQL refused each event of the class, and SQLite stored it."""
        with pytest.raises(TypeError, match=r"Lost: version=.* must be a whole number from 1 to "):

            class Lost(DomainEvent, key="parcel_id", version=version):
                parcel_id: UUID

    @pytest.mark.django_db
    def test_stores_the_highest_version(self, own_registry: None):
        class Lost(DomainEvent, key="parcel_id", version=LAST_VERSION):
            parcel_id: UUID

        with transaction.atomic():
            emit(Lost(parcel_id=uuid4()))

        assert Event.objects.get().version == LAST_VERSION

    def test_takes_the_value_of_an_enum_as_the_payload_has_it(self, own_registry: None):
        """Failed: the key was "Kind.PARCEL", and no search for "parcel" found it."""

        class Sorted(DomainEvent, key="kind", subject="kind:{kind}", share="kind:{kind}"):
            kind: Kind

        event = Sorted(kind=Kind.PARCEL)

        assert event.model_dump(mode="json") == {"kind": event.key}
        assert (event.subject_name(), event.share_name()) == ("kind:parcel", "kind:parcel")

    def test_is_frozen(self):
        event = ParcelSent(parcel_id=uuid4())

        with pytest.raises(ValueError, match="frozen"):
            event.note = "other"  # type: ignore[misc]


class TestASubclassOfAnEventWithoutAKey:
    """Failed: it was emitted under its parent's name, and its own fields were never masked."""

    @pytest.mark.django_db
    def test_cannot_be_emitted(self):
        with (
            transaction.atomic(),
            pytest.raises(TypeError, match=r"class ExpressParcelSent\(ParcelSent, key="),
        ):
            emit(ExpressParcelSent(parcel_id=uuid4(), driver="Ann"))

        assert not Event.objects.exists()

    def test_cannot_be_subscribed_to(self):
        with pytest.raises(TypeError, match="ExpressParcelSent is abstract and is never emitted"):
            subscribe(ExpressParcelSent)

    @pytest.mark.django_db
    def test_is_an_event_if_it_only_has_type_arguments(self, own_registry: None):
        class Changed(DomainEvent, Generic[T], key="parcel_id"):
            parcel_id: str
            to: T

        with transaction.atomic():
            emit(Changed[int](parcel_id="1", to=2))

        assert Event.objects.get().name == "tests.Changed"


class TestAnObjectThatIsNoEvent:
    """Failed with "'dict' object has no attribute 'event_name'"."""

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            ({"parcel_id": "1"}, r"emit\(\) got a dict\..*emit\(ParcelSent\(\*\*values\)\)"),
            ("tests.ParcelSent", r"emit\(\) got a str\. emit\(\) needs an instance"),
            (None, r"emit\(\) got a NoneType"),
            (
                ParcelSent,
                r"got the class\. Emit an instance: emit\(ParcelSent\(parcel_id=\.\.\., note=",
            ),
        ],
    )
    @pytest.mark.django_db
    def test_is_refused_with_the_fix(self, given: Any, problem: str):
        with transaction.atomic(), pytest.raises(TypeError, match=problem):
            emit(given)

        assert not Event.objects.exists()

    @pytest.mark.django_db
    def test_is_refused_without_its_values(self):
        with transaction.atomic(), pytest.raises(TypeError) as refused:
            emit({"email": "alice@example.com"})  # type: ignore[arg-type]  # on purpose

        assert "alice" not in str(refused.value)


class Noted(DomainEvent, key="parcel_id"):
    parcel_id: str
    note: Any = ""


class TestAValueThatNoDatabaseStores:
    """Failed: SQLite stored it; on PostgreSQL it was an error of the driver, tried for a day."""

    @pytest.mark.parametrize(
        ("note", "problem"),
        [
            ("a\x00b", r"note contains NUL \(U\+0000\)"),
            ({"lines": [{"name": "a\x00"}]}, r"note\.lines\[0\]\.name contains NUL"),
            ({"a\x00b": 1}, r"note has a name that contains NUL"),
            ("\ud800", r"contains U\+D800, half of a surrogate pair"),
            (float("nan"), "note is nan, which JSON does not have"),
            ([float("inf")], r"note\[0\] is inf"),
        ],
    )
    @pytest.mark.django_db
    def test_is_refused_with_its_name(self, note: Any, problem: str):
        with (
            transaction.atomic(),
            pytest.raises((UnstorableValue, PydanticSerializationError), match=problem),
        ):
            emit(Noted(parcel_id="1", note=note))

        assert not Event.objects.exists()

    @pytest.mark.django_db
    def test_includes_lists_in_more_than_a_hundred_lists(self):
        note: Any = []
        for _ in range(101):
            note = [note]

        with transaction.atomic(), pytest.raises(UnstorableValue, match="more than 100 levels"):
            emit(Noted(parcel_id="1", note=note))

    @pytest.mark.django_db
    def test_is_no_text_that_only_contains_the_sign_of_one(self):
        note = ["NaN", "-Infinity", "\\u0000", "\\ud800", [[n] for n in range(200)]]

        with transaction.atomic():
            emit(Noted(parcel_id="1", note=note))

        assert Event.objects.get().payload["note"] == note

    @pytest.mark.django_db
    def test_includes_a_key_that_is_too_long(self):
        with (
            transaction.atomic(),
            pytest.raises(UnstorableValue, match="key has 101 characters, and 100 at most"),
        ):
            emit(Noted(parcel_id="1" * 101))

    @pytest.mark.parametrize("delay", [None, timedelta(days=1)])
    @pytest.mark.django_db
    def test_includes_a_key_that_is_none(self, own_registry: None, delay: timedelta | None):
        """Failed: all such events had the key "None", so an ordered handler ran them in a line."""

        class Kept(DomainEvent, key="parcel_id"):
            parcel_id: int | None

        with transaction.atomic(), pytest.raises(UnstorableValue, match="parcel_id, is None"):
            emit(Kept(parcel_id=None), delay=delay)

        assert not Event.objects.exists()
        assert not DelayedEvent.objects.exists()

    @pytest.mark.django_db
    def test_is_refused_in_a_delayed_event(self):
        with transaction.atomic(), pytest.raises(UnstorableValue):
            emit(Noted(parcel_id="1", note="\x00"), delay=timedelta(days=1))

    @pytest.mark.django_db
    def test_is_refused_in_an_actor(self):
        with transaction.atomic(), acting_as("\x00"), pytest.raises(UnstorableValue, match="actor"):
            emit(Noted(parcel_id="1"))

    @pytest.mark.django_db
    def test_includes_no_character_of_other_languages(self):
        with transaction.atomic():
            emit(Noted(parcel_id="注文", note=["山田", "🎁", "é"]))

        assert Event.objects.get().payload["note"] == ["山田", "🎁", "é"]

    @pytest.mark.usefixtures("own_registry", "no_nudge")
    @pytest.mark.django_db
    def test_makes_a_delivery_dead_immediately(self):
        @subscribe("tests.Noted")
        def copy(parcel_id: str) -> None:
            emit(Noted(parcel_id=parcel_id, note="\x00"))

        outbox = Outbox()
        outbox.given("tests.Noted", parcel_id="1")
        outbox.deliver_all(raise_errors=False)

        assert Delivery.objects.get().state == "dead"
        assert "contains NUL" in Delivery.objects.get().note

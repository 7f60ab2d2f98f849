from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import TestCase
from uuid_utils.compat import uuid7

from outbox import DomainEvent, NotInTransaction, acting_as, emit
from outbox.models import Event


class ParcelSent(DomainEvent, key="parcel_id"):
    """A parcel left the house."""

    parcel_id: UUID
    note: str = ""


class Unkeyed(DomainEvent):
    parcel_id: UUID


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
    def test_is_undone_with_the_change_that_it_tells(self):
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
    def test_takes_the_actor_from_its_surroundings(self):
        with acting_as("job:sweep"), transaction.atomic():
            first = emit(ParcelSent(parcel_id=uuid4()))
            second = emit(ParcelSent(parcel_id=uuid4()))

        rows = Event.objects.filter(id__in=[first, second])
        assert {row.actor for row in rows} == {"job:sweep"}
        assert len({row.correlation_id for row in rows}) == 1

    @pytest.mark.django_db
    def test_refuses_an_event_without_a_key(self):
        with transaction.atomic(), pytest.raises(TypeError, match="has no key"):
            emit(Unkeyed(parcel_id=uuid4()))


class TestEmitInATestCase(TestCase):
    def test_demands_a_transaction_of_its_own(self):
        assert connection.in_atomic_block

        with self.assertRaises(NotInTransaction):
            emit(ParcelSent(parcel_id=uuid4()))


class TestDomainEvent:
    def test_refuses_a_key_that_is_no_field(self):
        with pytest.raises(TypeError, match="key='parcel' is no field"):

            class Lost(DomainEvent, key="parcel"):
                parcel_id: UUID

    def test_refuses_a_field_that_hides_a_fact(self):
        with pytest.raises(TypeError, match="correlation_id is a fact"):

            class Lost(DomainEvent, key="parcel_id"):
                parcel_id: UUID
                correlation_id: UUID

    def test_is_frozen(self):
        event = ParcelSent(parcel_id=uuid4())

        with pytest.raises(ValueError, match="frozen"):
            event.note = "other"  # type: ignore[misc]

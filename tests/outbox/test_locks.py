"""Rows that are saved only under their lock (rule 16).

Each test that finds something was seen to fail without `locks.watch()`; those of a lock that is
gone, with a mark kept on the row itself.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from django.core import serializers
from django.db import transaction

from outbox.guards import guards_lifted
from outbox.guards.locks import SavedWithoutLock
from tests.outbox.project.freight.models import Parcel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def parcel() -> Parcel:
    row: Parcel = Parcel.objects.create()
    return row


class TestASaveWithoutTheLock:
    def test_is_found(self, parcel: Parcel):
        row = Parcel.objects.get(pk=parcel.pk)

        with transaction.atomic(), pytest.raises(SavedWithoutLock) as found:
            row.save()

        line = inspect.getsourcelines(TestASaveWithoutTheLock.test_is_found)[1] + 4
        here = Path(__file__).relative_to(Path.cwd())
        said = f"{here}:{line}: freight.Parcel {row.pk} is saved without a lock"
        assert str(found.value).startswith(said)

    def test_is_found_without_any_transaction(self, parcel: Parcel):
        with pytest.raises(SavedWithoutLock):
            parcel.save()

    def test_is_found_in_the_next_transaction(self, parcel: Parcel):
        with transaction.atomic():
            row = Parcel.objects.locked(parcel.pk)

        with transaction.atomic(), pytest.raises(SavedWithoutLock):
            row.save()

    def test_is_found_after_a_rollback(self, parcel: Parcel):
        with transaction.atomic():
            row = Parcel.objects.locked(parcel.pk)
            transaction.set_rollback(True)

        with transaction.atomic(), pytest.raises(SavedWithoutLock):
            row.save()

    def test_is_found_after_a_rollback_to_a_savepoint_before_the_lock(self, parcel: Parcel):
        with transaction.atomic():
            with transaction.atomic():
                row = Parcel.objects.locked(parcel.pk)
                transaction.set_rollback(True)
            with pytest.raises(SavedWithoutLock):
                row.save()

    def test_is_found_for_a_row_read_before_the_lock(self, parcel: Parcel):
        """The lock is held, but the saved row was read before it."""
        with transaction.atomic(), pytest.raises(SavedWithoutLock):
            Parcel.objects.locked(parcel.pk)
            parcel.save()

    def test_is_found_in_a_callback_after_the_commit(self, parcel: Parcel):
        with pytest.raises(SavedWithoutLock), transaction.atomic():
            transaction.on_commit(lambda: row.save())
            row = Parcel.objects.locked(parcel.pk)


class TestASave:
    def test_is_allowed_under_the_lock(self, parcel: Parcel):
        with transaction.atomic():
            row = Parcel.objects.locked(parcel.pk)
            row.save()
            with transaction.atomic():
                row.save(update_fields=["address"])

    def test_is_allowed_for_a_row_that_this_transaction_created(self):
        with transaction.atomic():
            parcel = Parcel.objects.create()
            parcel.save()

    def test_is_allowed_for_a_fixture(self, parcel: Parcel):
        [row] = serializers.deserialize("json", serializers.serialize("json", [parcel]))

        row.save()

    def test_is_allowed_while_the_guards_are_lifted(self, parcel: Parcel):
        with guards_lifted():
            parcel.save()

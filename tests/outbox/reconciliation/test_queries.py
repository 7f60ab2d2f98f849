"""Queries that compare rows with their events."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from outbox import DomainEvent, emit
from outbox.reconciliation import events_without_row, rows_without_event

pytestmark = pytest.mark.django_db

NAME = "tests.Joined"


class Joined(DomainEvent, key="group_id"):
    """A group has a member."""

    group_id: int
    user_id: int = 0
    is_staff: bool = False


def joined(**fields: object) -> None:
    with transaction.atomic():
        emit(Joined.model_validate(fields))


class TestAKeyThatIsAnInteger:
    def test_finds_the_events_without_a_row(self):
        """Failed on PostgreSQL: "operator does not exist: bigint = character varying"."""
        group = Group.objects.create(name="packers")
        joined(group_id=group.pk)
        joined(group_id=0)
        joined(group_id=-group.pk)

        found = events_without_row(NAME, Group.objects.all(), key="id")

        assert [event.key for event in found] == ["0", str(-group.pk)]

    def test_finds_the_rows_without_an_event(self):
        group, other = (Group.objects.create(name=name) for name in ("packers", "drivers"))
        joined(group_id=group.pk)

        assert list(rows_without_event(Group.objects.all(), NAME, key="id")) == [other]

    def test_may_be_the_one_of_a_related_row(self):
        group = Group.objects.create(name="packers")
        user = User.objects.create_user("ann")
        user.groups.add(group)
        joined(group_id=group.pk)
        joined(group_id=group.pk + 1)

        found = events_without_row(NAME, User.objects.all(), key="groups__id")

        assert [event.key for event in found] == [str(group.pk + 1)]

    @pytest.mark.parametrize("key", [2**63 - 1, -(2**63), 2**63, 10**30])
    def test_may_be_of_any_size(self, key):
        joined(group_id=key)

        found = events_without_row(NAME, Group.objects.all(), key="id")

        assert [event.key for event in found] == [str(key)]

    @pytest.mark.postgresql
    def test_uses_the_index_of_the_column(self):
        joined(group_id=1)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")

        plan = events_without_row(NAME, Group.objects.all(), key="id").explain()

        assert "auth_group_pkey" in plan


class TestAField:
    def test_that_is_an_integer_is_compared(self):
        group = Group.objects.create(name="packers")
        user = User.objects.create_user("ann")
        user.groups.add(group)
        joined(group_id=group.pk, user_id=user.pk)
        joined(group_id=group.pk, user_id=user.pk + 1)

        rows = User.objects.filter(groups=group)
        found = events_without_row(NAME, rows, key="groups__id", user_id="id")

        assert [event.payload["user_id"] for event in found] == [user.pk + 1]

    def test_that_the_event_does_not_have_is_found(self):
        group = Group.objects.create(name="packers")
        joined(group_id=group.pk)

        found = events_without_row(NAME, Group.objects.all(), key="id", weight="id")

        assert [event.key for event in found] == [str(group.pk)]

    @pytest.mark.postgresql
    def test_of_another_type_is_compared_as_text(self):
        """Failed: "operator does not exist: boolean = text"."""
        user = User.objects.create_user("ann", is_staff=True)
        joined(group_id=user.pk, is_staff=True)
        joined(group_id=user.pk, is_staff=False)

        found = events_without_row(NAME, User.objects.all(), key="id", is_staff="is_staff")

        assert [event.payload["is_staff"] for event in found] == [False]

    @pytest.mark.postgresql
    def test_of_another_type_may_be_of_a_related_row(self):
        group = Group.objects.create(name="packers")
        user = User.objects.create_user("ann", is_staff=True)
        user.groups.add(group)
        joined(group_id=user.pk, is_staff=True)
        joined(group_id=user.pk, is_staff=False)

        columns = {"key": "user__id", "is_staff": "user__is_staff"}
        found = events_without_row(NAME, Group.objects.all(), **columns)

        assert [event.payload["is_staff"] for event in found] == [False]

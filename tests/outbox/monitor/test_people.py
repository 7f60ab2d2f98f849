"""Users by their names in texts about pauses and operations."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.db.models import Model
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from outbox import operations, subscribe
from outbox.alerts import problems
from outbox.models import Operation, Subscription
from outbox.monitor.people import name_of, names_of
from outbox.operations.holds import Hold
from outbox.testing import Outbox
from tests.outbox.command import outbox_command
from tests.outbox.drive import create_deliveries, emit_parcels


@pytest.fixture
def ann(db: None) -> User:
    return User.objects.create_user("ann")


class TestAUser:
    def test_is_named(self, ann: User):
        assert name_of(f"user:{ann.pk}") == "ann"

    @pytest.mark.parametrize("actor", ["cli:ann", "rule:KeyError", "", "user:0", "user:x"])
    def test_is_left_as_it_is_if_unknown(self, ann: User, actor: str):
        assert name_of(actor) == actor

    def test_is_read_with_all_others_at_once(
        self, ann: User, django_assert_num_queries: DjangoAssertNumQueries
    ):
        bob = User.objects.create_user("bob")

        with django_assert_num_queries(1):
            found = names_of([f"user:{ann.pk}", f"user:{bob.pk}", "cli:eve"])

        assert found == {f"user:{ann.pk}": "ann", f"user:{bob.pk}": "bob"}

    def test_is_read_by_no_query_if_none_is_meant(
        self, db: None, django_assert_num_queries: DjangoAssertNumQueries
    ):
        with django_assert_num_queries(0):
            assert names_of(["cli:eve", ""]) == {}


class Places:
    """A router that notes the models that it is asked for."""

    asked: ClassVar[list[type[Model]]] = []

    def db_for_read(self, model: type[Model], **_hints: Any) -> None:
        self.asked.append(model)


class TestUsersInAnotherDatabase:
    def test_are_looked_up_where_the_router_places_them(self, ann: User, settings: Settings):
        settings.DATABASE_ROUTERS = [Places()]

        assert name_of(f"user:{ann.pk}") == "ann"
        assert User in Places.asked

    @pytest.mark.django_db(transaction=True)
    def test_have_no_names_while_it_cannot_be_read(self, caplog: pytest.LogCaptureFixture):
        """Seen to fail: the status and every check of alerts failed with it."""

        def fail(*_: object) -> None:
            raise OperationalError("the database of the staff is gone")

        with connection.execute_wrapper(fail):
            assert name_of("user:1") == "user:1"

        assert "The names of users could not be read from default: the database" in caplog.text

    @pytest.mark.postgresql
    @pytest.mark.django_db(transaction=True)
    def test_are_read_again_after_a_lost_session(self):
        """Seen to fail: the thread of alerts named nobody until its process ended."""
        ann = User.objects.create_user("ann")
        connection.connection.close()

        try:
            names = [name_of(f"user:{ann.pk}") for _ in range(2)]
        finally:
            connection.close()  # the end of the test needs a new one

        assert names == [f"user:{ann.pk}", "ann"]


@pytest.mark.usefixtures("own_registry")
class TestAPause:
    def test_names_the_user_in_status_and_log(self, ann: User):
        @subscribe("parcels.ParcelSent")
        def invoice() -> None: ...

        Outbox()
        operations.pause("tests.invoice", by=f"user:{ann.pk}", reason="no paper")

        assert "tests.invoice is paused by ann since " in outbox_command("status")
        [status] = json.loads(outbox_command("status", "--json"))["handlers"]
        assert status["paused_by"] == "ann"  # failed: "user:7"
        assert " ann " in outbox_command("log")

    def test_names_the_actor_once_the_user_is_deleted(self, ann: User):
        @subscribe("parcels.ParcelSent")
        def invoice() -> None: ...

        outbox = Outbox()
        emit_parcels(1, outbox)
        create_deliveries()
        actor = f"user:{ann.pk}"
        operations.pause("tests.invoice", by=actor, reason="no paper")
        ann.delete()

        [alert] = problems.find({"paused": 0}, using="default").problems.values()
        assert f"paused by {actor} since " in alert.text
        assert f"paused by {actor} since " in outbox_command("status")
        assert f" {actor} " in outbox_command("log")


class TestAnUnfinishedOperation:
    """Failed: the errors named "user:7"."""

    @pytest.mark.usefixtures("own_registry")
    def test_of_the_same_replay_is_named_with_its_user(self, ann: User):
        choice = operations.Choice(handler="tests.invoice")
        operations.replay(choice, by=f"user:{ann.pk}", reason="a test")
        Operation.objects.update(state="running")

        with pytest.raises(operations.StillRunning, match=r"operation \d+, by ann, last heartbeat"):
            operations.replay(choice, by="cli:bob", reason="a test")

    @pytest.mark.usefixtures("own_registry")
    def test_of_another_backfill_is_named_with_its_user(self, ann: User):
        now = timezone.now()
        other = Operation.objects.create(
            action="backfill",
            choice={"handler": "tests.invoice"},
            by=f"user:{ann.pk}",
            started_at=now,
            seen_at=now,
        )

        @subscribe("parcels.ParcelSent", ordered=True)
        def invoice() -> None: ...

        Outbox()
        Subscription.objects.update(paused_at=now, paused_by=f"backfill:{other.pk}")

        with pytest.raises(ValueError, match=f"operation {other.pk}, by ann, last heartbeat"):
            Hold("tests.invoice", "default").refuse_other()

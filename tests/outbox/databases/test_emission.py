"""`OUTBOX["DATABASES"]`: an event is stored in the database whose transaction is open."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from psycopg.sql import SQL, Composable, Identifier
from pytest_django import Settings

from outbox import (
    DomainEvent,
    NotInTransaction,
    Receipt,
    RequestContextMiddleware,
    Sensitive,
    databases,
    declare_subject,
    emit,
    subscribe,
)
from outbox.databases import SeveralTransactions, UnlistedDatabase, WrittenBesideReceipt
from outbox.deliveries.attempts import describe
from outbox.models import Delivery, Event, Subscription
from outbox.privacy.redaction import redact
from outbox.relay.passes import relay_pass
from outbox.testing import Outbox
from outbox.worker.delivery import deliver
from outbox.worker.outcome import Result
from tests.outbox.project.freight.models import Shelf
from tests.outbox.two_databases import SHARD, sync_both

pytestmark = pytest.mark.django_db(transaction=True)


class ParcelMoved(DomainEvent, key="parcel_id"):
    """A parcel moved to another place."""

    parcel_id: UUID


class ParcelPlaced(DomainEvent, key="parcel_id"):
    """A parcel has a place."""

    parcel_id: UUID


class ParcelSigned(DomainEvent, key="parcel_id"):
    """Somebody signed for a parcel."""

    parcel_id: UUID
    signer: Sensitive[str]


def in_its_database(parcel: UUID) -> None:
    """Let the second database have the parcel of a customer."""
    parcels = {SHARD: {str(parcel): "7"}}
    names = {SHARD: {"7": ["Ann"]}}
    declare_subject(
        "customer",
        values=lambda part: names.get(databases.alias(), {}).get(part, []),
        keys=lambda part: [
            key for key, one in parcels.get(databases.alias(), {}).items() if one == part
        ],
        of_key=lambda key: parcels.get(databases.alias(), {}).get(key),
    )


def events_in(using: str) -> list[str]:
    return list(Event.objects.using(using).order_by("seq").values_list("name", flat=True))


def moved() -> ParcelMoved:
    return ParcelMoved(parcel_id=uuid4())


def deliver_in(using: str) -> list[Result]:
    """Relay due deliveries of a database, and run them there as a worker does."""
    plan = relay_pass(publish=lambda _message: None, using=using)
    results: list[Result] = []
    for message in plan.messages:
        results += deliver(
            handler_name=message.handler, pairs=message.pairs, worker="w1", using=using
        )
    return results


def emit_in(using: str) -> None:
    with transaction.atomic(using=using):
        emit(moved())


class TestTheCorrelationIdOfARequest:
    def test_is_checked_in_each_database(self, shard: str):
        """Seen to be checked in the database of the first event only."""
        given, anna, ben = uuid4(), User(pk=7), User(pk=8)
        asked_by(anna, given, [shard])

        answered = asked_by(ben, given, ["default", shard])

        assert answered != str(given)
        of_given = Event.objects.using(shard).filter(correlation_id=given)
        assert [event.actor for event in of_given] == ["user:7"]


def asked_by(user: User, correlation_id: UUID, aliases: list[str]) -> str:
    """Have a user send a request that emits in these databases; return the id of the answer."""

    def view(request: HttpRequest) -> HttpResponse:
        request.user = user
        for alias in aliases:
            emit_in(alias)
        return HttpResponse()

    request = RequestFactory().get("/", headers={"X-Correlation-ID": str(correlation_id)})
    return str(RequestContextMiddleware(view)(request)["X-Correlation-ID"])


class TestEmit:
    def test_stores_the_event_where_the_transaction_is_open(self, shard: str):
        emit_in(shard)

        assert events_in(shard) == ["tests.ParcelMoved"]
        assert events_in("default") == []

    def test_stores_it_in_the_default_database_too(self, shard: str):
        emit_in("default")

        assert events_in("default") == ["tests.ParcelMoved"]
        assert events_in(shard) == []

    def test_names_the_databases_if_several_have_a_transaction(self, shard: str):
        with (
            pytest.raises(SeveralTransactions, match=r"'default' and 'shard_1'.*using="),
            transaction.atomic(),
            transaction.atomic(using=shard),
        ):
            emit(moved())

        assert events_in("default") == events_in(shard) == []

    def test_stores_it_in_the_named_one_of_them(self, shard: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "GUARDS": False}
        # As under ATOMIC_REQUESTS, which opens a transaction of each.
        for using in ("default", shard):
            connections[using].settings_dict["ATOMIC_REQUESTS"] = True
        try:
            with transaction.atomic(), transaction.atomic(using=shard):
                emit(moved(), using=shard)
        finally:
            for using in ("default", shard):
                connections[using].settings_dict["ATOMIC_REQUESTS"] = False

        assert events_in(shard) == ["tests.ParcelMoved"]
        assert events_in("default") == []

    def test_refuses_a_database_that_is_not_listed(self, shard: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": ["default"]}

        with (
            pytest.raises(UnlistedDatabase, match=r"'shard_1' is not in OUTBOX.*migrate"),
            transaction.atomic(using=shard),
        ):
            emit(moved(), using=shard)

    def test_names_the_listed_databases_without_a_transaction(self, shard: str):
        with pytest.raises(NotInTransaction):
            emit(moved())

    def test_without_the_setting_refuses_another_database_than_the_routers(
        self, shard: str, settings: Settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        with (
            pytest.raises(UnlistedDatabase, match="The outbox is in 'default'"),
            transaction.atomic(),
        ):
            emit(moved(), using=shard)

    def test_without_the_setting_is_stored_where_the_router_says(
        self, shard: str, settings: Settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        with transaction.atomic():
            emit(moved())

        assert events_in("default") == ["tests.ParcelMoved"]


class TestMigrate:
    def test_stores_the_subscriptions_in_each_database(self, shard: str):
        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None: ...

        for using in ("default", shard):
            call_command("migrate", database=using, verbosity=0)

            handlers = Subscription.objects.using(using).values_list("handler", flat=True)
            assert list(handlers) == ["tests.place"]


class TestAHandler:
    """A handler whose delivery is in the second database."""

    def test_emits_there(self, shard: str):
        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None:
            emit(ParcelPlaced(parcel_id=parcel_id))

        sync_both()
        emit_in(shard)

        [result] = deliver_in(shard)

        assert result.error is None
        assert events_in(shard) == ["tests.ParcelMoved", "tests.ParcelPlaced"]
        assert events_in("default") == []

    def test_works_on_its_database(self, shard: str):
        seen: list[str] = []

        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None:
            seen.append(databases.alias())

        sync_both()
        emit_in(shard)
        deliver_in(shard)

        assert seen == [shard]
        assert databases.alias() == "default"

    def test_may_not_emit_elsewhere(self, shard: str):
        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None:
            with transaction.atomic(using="default"):
                emit(ParcelPlaced(parcel_id=parcel_id), using="default")

        sync_both()
        emit_in(shard)

        [result] = deliver_in(shard)

        assert isinstance(result.error, WrittenBesideReceipt)
        assert "atomic=False" in str(result.error)
        assert events_in("default") == []

    @pytest.mark.parametrize("shared", [True, False])
    def test_may_not_write_elsewhere(self, shard: str, shared: bool):
        @subscribe("tests.ParcelMoved", shared_transaction=shared)
        def place(parcel_id: UUID) -> None:
            Shelf.objects.using("default").create(name=str(parcel_id))

        sync_both()
        for _ in range(2):
            emit_in(shard)

        results = deliver_in(shard)

        assert [type(one.error) for one in results] == [WrittenBesideReceipt] * 2
        assert "'default'" in str(results[0].error)
        assert not Shelf.objects.exists()
        assert not Delivery.objects.using(shard).filter(state="done").exists()

    def run_in_default(self, statement: str | Composable, shard: str) -> Result:
        """Let a handler whose receipt is in the shard execute a statement in the other database."""

        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None:
            with connections["default"].cursor() as cursor:
                cursor.execute(statement)

        sync_both()
        emit_in(shard)
        [result] = deliver_in(shard)
        return result

    @pytest.mark.postgresql
    @pytest.mark.parametrize(
        "statement",
        [
            SQL("INSERT INTO {} (name) VALUES ('a')").format(Identifier(Shelf._meta.db_table)),
            "-- isn't a read\nDELETE FROM auth_group",
            "SELECT 1; DELETE FROM auth_group",
            "WITH a AS (SELECT $$it's$$) DELETE FROM auth_group WHERE name <> 'a'",
        ],
    )
    def test_may_not_write_elsewhere_by_any_statement(
        self, shard: str, statement: str | Composable
    ):
        """Failed: the text of a statement that psycopg composes was not read."""

        result = self.run_in_default(statement, shard)

        assert isinstance(result.error, WrittenBesideReceipt)
        assert not Shelf.objects.exists()

    @pytest.mark.postgresql
    @pytest.mark.parametrize(
        "statement",
        [
            "WITH a AS (SELECT id FROM auth_group FOR NO KEY UPDATE) SELECT * FROM a",
            "WITH a AS (SELECT 'delete' AS word) SELECT word FROM a",
            'WITH a AS (SELECT 1 AS "update") SELECT * FROM a',
        ],
    )
    def test_may_read_elsewhere_by_any_statement(self, shard: str, statement: str):
        """Failed: the words of a write in a text, a name or a row lock were taken for a write."""

        result = self.run_in_default(statement, shard)

        assert result.error is None

    def test_may_read_elsewhere(self, shard: str):
        found: list[int] = []

        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None:
            found.append(Shelf.objects.using("default").count())

        sync_both()
        emit_in(shard)

        [result] = deliver_in(shard)

        assert result.error is None
        assert found == [0]

    def test_may_write_elsewhere_before_its_receipt(self, shard: str):
        @subscribe("tests.ParcelMoved", atomic=False)
        def place(parcel_id: UUID, event_id: UUID, receipt: Receipt) -> None:
            with transaction.atomic(using="default"):
                emit(ParcelPlaced(parcel_id=parcel_id), dedupe_key=str(event_id), using="default")
            with receipt:
                Shelf.objects.using(shard).create(name=str(parcel_id))

        sync_both()
        emit_in(shard)

        [result] = deliver_in(shard)

        assert result.error is None
        assert events_in("default") == ["tests.ParcelPlaced"]
        assert Shelf.objects.using(shard).count() == 1

    def test_may_not_write_elsewhere_within_its_receipt(self, shard: str):
        @subscribe("tests.ParcelMoved", atomic=False)
        def place(parcel_id: UUID, receipt: Receipt) -> None:
            with receipt:
                Shelf.objects.using("default").create(name=str(parcel_id))

        sync_both()
        emit_in(shard)

        [result] = deliver_in(shard)

        assert isinstance(result.error, WrittenBesideReceipt)
        assert not Shelf.objects.exists()

    def test_may_not_write_elsewhere_within_an_async_receipt(self, shard: str):
        @subscribe("tests.ParcelMoved", atomic=False)
        async def place(parcel_id: UUID, receipt: Receipt) -> None:
            async with receipt:
                await Shelf.objects.using("default").acreate(name=str(parcel_id))

        sync_both()
        emit_in(shard)

        [result] = deliver_in(shard)

        assert isinstance(result.error, WrittenBesideReceipt)
        assert not Shelf.objects.exists()

    def test_without_the_setting_writes_where_it_wants(self, shard: str, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}

        @subscribe("tests.ParcelMoved")
        def place(parcel_id: UUID) -> None:
            Shelf.objects.using(shard).create(name=str(parcel_id))

        Outbox()
        emit_in("default")

        [result] = deliver_in("default")

        assert result.error is None
        assert Shelf.objects.using(shard).count() == 1

    @pytest.mark.parametrize("shares", [True, False], ids=["batch", "alone"])
    def test_emits_into_another_database_after_its_commit(self, shard: str, shares: bool):
        """Failed in a batch: the callback was refused, as before the commit, and was lost."""

        @subscribe("tests.ParcelMoved", shared_transaction=shares)
        def place(parcel_id: UUID) -> None:
            def pass_on() -> None:
                with transaction.atomic():
                    emit(ParcelPlaced(parcel_id=parcel_id))

            transaction.on_commit(pass_on, using=databases.alias())

        sync_both()
        for _ in range(2):
            emit_in(shard)

        results = deliver_in(shard)

        assert [one.error for one in results] == [None, None]
        assert events_in("default") == ["tests.ParcelPlaced"] * 2


class TestARedaction:
    def test_notifies_the_apps_of_its_database_in_a_view_of_another(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to raise SeveralTransactions after the fields were blanked."""
        monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

        with transaction.atomic():  # as around a view
            redact(subject="customer:7", by="ann", reason="asked to", using=shard)

        assert events_in(shard) == ["outbox.SubjectRedacted"]
        assert events_in("default") == []

    def test_finds_the_events_of_a_person_by_the_rows_of_its_database(self, shard: str):
        """Failed: the functions read the first database, and what they missed was not blanked."""
        parcel = uuid4()
        in_its_database(parcel)
        with transaction.atomic(using=shard):
            emit(ParcelSigned(parcel_id=parcel, signer="Ann"))
        relay_pass(publish=lambda _message: None, using=shard)

        done = redact(subject="customer:7", by="ann", reason="asked to", using=shard)

        assert done.blanked == 1
        assert Event.objects.using(shard).get(name="tests.ParcelSigned").payload["signer"] == ""


class TestAFailure:
    def test_is_masked_by_the_rows_of_its_database(self, shard: str):
        """Failed: a dry run with `using=` showed the name."""
        parcel = uuid4()
        in_its_database(parcel)
        with transaction.atomic(using=shard):
            emit(ParcelSigned(parcel_id=parcel, signer=""))

        failure = describe(
            ValueError("no box for Ann"), Event.objects.using(shard).get(), using=shard
        )

        assert failure.message == "no box for ***"

"""The log contains committed changes only. A lock that is not free raises a clear error."""

from __future__ import annotations

import logging
import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import Error, OperationalError, transaction

from outbox import Breaker, DomainEvent, Pause, Receipt, subscribe, subscriptions
from outbox.deliveries import joining, settlement, sync, transient_errors, withdrawal
from outbox.deliveries.joining import NamesNotJoined
from outbox.deliveries.sync import sync_subscriptions
from outbox.models import Attempt, Delivery, Subscription
from outbox.testing import Outbox
from tests.threads import in_thread

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class Weighed(DomainEvent, key="parcel_id"):
    parcel_id: UUID


class NotCommitted(Exception):
    """Ends a transaction at its last step."""


def fail(*_arguments: Any, **_options: Any) -> Any:
    raise NotCommitted


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="outbox")
    return caplog


def number_of(text: str, log: pytest.LogCaptureFixture) -> int:
    return sum(text in record.getMessage() for record in log.records)


def release(name: str, *, formerly: str = "") -> list[Any]:
    """Return the handlers of a release that calls its handler by this name."""
    subscriptions.registry.clear()

    @subscribe("tests.Weighed", name=name, formerly=[formerly] if formerly else [])
    def count() -> None: ...

    return list(subscriptions.registry)


def migrate(handlers: list[Any]) -> None:
    subscriptions.registry[:] = handlers
    sync_subscriptions()


@pytest.fixture
def two_names() -> list[Any]:
    """The release that renamed the handler, rolled back and deployed again."""
    old = release("tests.count")
    renamed = release("tests.count_parcels", formerly="tests.count")
    for handlers in (old, renamed, old):
        migrate(handlers)
    return renamed


TAKES_OVER = "tests.count_parcels takes over from tests.count"


class TestAMergeOfTwoNames:
    def test_is_logged_once(self, two_names: list[Any], log: pytest.LogCaptureFixture):
        log.clear()

        migrate(two_names)

        assert number_of(TAKES_OVER, log) == 1

    def test_is_not_logged_if_it_is_rolled_back(
        self,
        two_names: list[Any],
        log: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Failed: the line was written before the transaction's first change."""
        log.clear()
        monkeypatch.setattr(joining, "set_shares", fail)

        with pytest.raises(NotCommitted):
            migrate(two_names)

        assert Subscription.objects.count() == 2
        assert number_of(TAKES_OVER, log) == 0

    def test_is_not_logged_before_the_commit_if_the_former_name_has_a_row(
        self, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        migrate(release("tests.count"))
        renamed = release("tests.count_parcels", formerly="tests.count")
        with monkeypatch.context() as patch, pytest.raises(NotCommitted):
            patch.setattr(sync, "_mark_unknown", fail)
            migrate(renamed)
        assert number_of(TAKES_OVER, log) == 0

        migrate(renamed)

        assert number_of(TAKES_OVER, log) == 1


class TestALockHeldByAnotherTransaction:
    @pytest.fixture(autouse=True)
    def _few_tries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(joining, "_LOCK_TRIES", 1)
        monkeypatch.setattr(transient_errors, "_TRIES", 2)

    @pytest.mark.postgresql
    def test_is_an_error_with_both_names_the_cause_and_the_next_step(self, two_names: list[Any]):
        """Failed with "canceling statement due to lock timeout" alone."""
        other = Subscription.objects.get(handler="tests.count")
        other.pk, other.handler = None, "tests.other"
        other.save()
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with transaction.atomic():
                list(Subscription.objects.select_for_update().filter(pk=other.pk))
                held.set()
                go_on.wait(60)

        holder = in_thread(hold)
        assert held.wait(60)
        try:
            with pytest.raises(NamesNotJoined) as refused:
                migrate(two_names)
        finally:
            go_on.set()
            holder()

        text = str(refused.value)
        assert "tests.count and tests.count_parcels to tests.Weighed are not joined" in text
        assert "canceling statement due to lock timeout" in text
        assert "`manage.py outbox doctor`" in text
        assert "`manage.py migrate` again" in text
        assert Subscription.objects.filter(handler__startswith="tests.count").count() == 2

    @pytest.mark.parametrize("text", ["database is locked", "database table is locked"])
    def test_raises_the_same_error_on_sqlite_after_a_retry(
        self, two_names: list[Any], monkeypatch: pytest.MonkeyPatch, text: str
    ):
        tries = []

        def locked(**_options: Any) -> None:
            tries.append(1)
            raise OperationalError(text)

        monkeypatch.setattr(joining, "lock_subscriptions", locked)

        with pytest.raises(NamesNotJoined, match=text):
            migrate(two_names)

        assert len(tries) == 2

    def test_is_distinguished_from_other_errors(
        self, two_names: list[Any], monkeypatch: pytest.MonkeyPatch
    ):
        def broken(**_options: Any) -> None:
            raise OperationalError("disk I/O error")

        monkeypatch.setattr(joining, "lock_subscriptions", broken)

        with pytest.raises(Error) as raised:
            migrate(two_names)

        assert not isinstance(raised.value, NamesNotJoined)


class TestAFailureWhoseRecordIsRolledBack:
    """Failed: what it did to its handler was logged before the commit, and again by each try."""

    @pytest.fixture(autouse=True)
    def _unsaved(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settlement, "_settle", fail)

    def test_logs_no_pause(self, log: pytest.LogCaptureFixture):
        @subscribe("tests.Weighed", rules={ValueError: Pause("the scales are broken")})
        def count() -> None:
            raise ValueError

        deliver()

        assert number_of("is paused by its own rule", log) == 0
        assert number_of("could not be stored", log) == 1

    def test_logs_no_breaker(self, log: pytest.LogCaptureFixture):
        @subscribe("tests.Weighed", breaker=Breaker(on=(ValueError,), failures=1), atomic=False)
        def count(receipt: Receipt) -> None:
            raise ValueError

        deliver()

        assert number_of("Its deliveries wait", log) == 0
        assert number_of("could not be stored", log) == 1


class TestAFailureThatIsStored:
    def test_logs_the_pause_once(self, log: pytest.LogCaptureFixture):
        @subscribe("tests.Weighed", rules={ValueError: Pause("the scales are broken")})
        def count() -> None:
            raise ValueError

        deliver()

        assert number_of("tests.count is paused by its own rule: the scales are broken", log) == 1


class TestAWithdrawalThatIsRolledBack:
    def test_is_not_logged(self, log: pytest.LogCaptureFixture):
        @subscribe("tests.Weighed")
        def count() -> None:
            raise ValueError

        deliver()
        row = Delivery.objects.get()
        Attempt.objects.update(outcome="died", worker=row.worker, started_at=row.started_at)
        ours: dict[str, Any] = {"worker": row.worker, "started_at": row.started_at}

        with pytest.raises(NotCommitted), transaction.atomic():
            assert withdrawal.withdraw_deaths([row.pk], **ours, using="default") == 1
            raise NotCommitted
        assert number_of("its worker is alive", log) == 0
        withdrawal.withdraw_deaths([row.pk], **ours, using="default")

        assert number_of("its worker is alive", log) == 1


def deliver() -> None:
    outbox = Outbox()
    outbox.given("tests.Weighed", parcel_id=uuid4())
    outbox.deliver_all(raise_errors=False)

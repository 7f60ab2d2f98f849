"""A router that reads from a replica: code that decides or stores reads the primary (rule 1).

The replica is a copy of the SQLite file, so the test decides what it lacks.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox import DomainEvent, PermanentFailure, Sensitive, clock, operations, retention, subscribe
from outbox.counting import minutes
from outbox.deliveries import failpoints
from outbox.models import Delivery, Event, Minute, Operation, Subscription
from outbox.operations import progress, resumption
from outbox.operations.dry_run import dry_run
from outbox.privacy.redaction import redact
from outbox.privacy.sensitive import masked
from outbox.testing import Outbox
from tests.outbox.command import outbox_command
from tests.outbox.drive import Died, die, run_messages, run_pass

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]


class PrimaryReplica:
    """The example of Django's documentation, with one replica."""

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **_hints: Any) -> str:
        return "default"

    def allow_relation(self, *_objects: Any, **_hints: Any) -> bool:
        return True


class Reads(PrimaryReplica):
    """Records each model of the outbox that is read through the router."""

    def __init__(self) -> None:
        self.models: list[str] = []

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        if model._meta.app_label == "outbox":
            self.models.append(model.__name__)
        return "default"


@pytest.fixture
def replicate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Return a function that copies the present primary to the replica."""

    def ensure_connection(self: Any) -> None:  # Django's own, without what its tests put around
        if self.connection is None:
            with self.wrap_database_errors:
                self.connect()

    name = str(tmp_path / "replica.sqlite3")

    def copy() -> None:
        connections["replica"].close()
        connection.ensure_connection()
        target = sqlite3.connect(name)
        connection.connection.backup(target)
        target.close()

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", ensure_connection)
    monkeypatch.setitem(connections.settings, "replica", {**connection.settings_dict, "NAME": name})
    copy()
    monkeypatch.setattr(router, "routers", [PrimaryReplica()])
    yield copy
    connections["replica"].close()
    del connections["replica"]


class ParcelSent(DomainEvent, key="parcel_id", subject="customer:{customer_id}"):
    parcel_id: UUID
    customer_id: UUID
    email: Sensitive[str]


PARCEL, CUSTOMER = UUID(int=1), UUID(int=2)
FIELDS: dict[str, Any] = {
    "parcel_id": PARCEL,
    "customer_id": CUSTOMER,
    "email": "hanako@example.co.jp",
}
BY: dict[str, Any] = {"by": "ann", "reason": "a test"}


def on_primary(model: Any) -> Any:
    return model.objects.using("default")


def first_event() -> Event:
    event: Event = on_primary(Event).order_by("seq").first()
    return event


class TestACorrection:
    def test_stores_no_value_that_the_replica_has_not_redacted_yet(
        self, replicate: Callable[[], None]
    ):
        """Failed: the redacted address was stored again, from the replica."""

        @subscribe("tests.ParcelSent")
        def send() -> None:
            raise PermanentFailure("no")

        Outbox().given("tests.ParcelSent", **FIELDS)
        run_messages(run_pass())
        replicate()
        redact(subject=f"customer:{CUSTOMER}", force=True, **BY)

        operations.correct(on_primary(Delivery).get().pk, masked(first_event()), **BY)

        payloads = list(on_primary(Event).values_list("payload", flat=True))
        assert len(payloads) == 3  # the redaction emits one as well
        assert "hanako" not in str(payloads)


class TestAnArchive:
    def test_has_the_deleted_deliveries_and_failures(
        self, replicate: Callable[[], None], tmp_path: Path
    ):
        """Failed: they were read from the replica, which had none of them yet."""

        @subscribe("tests.ParcelSent", backoff_base=0)
        def send(attempt: int) -> None:
            if attempt == 1:
                raise ValueError("the depot is closed")

        Outbox().given("tests.ParcelSent", **FIELDS)
        run_messages(run_pass())
        run_messages(run_pass())
        on_primary(Event).update(emitted_at="2020-01-01T00:00:00Z")
        assert on_primary(Delivery).get().state == "done"

        removed = retention.prune(older_than=timedelta(days=1), archive=tmp_path / "old", by="ann")

        assert removed == 1
        [file] = (tmp_path / "old").glob("*.gz")
        [line] = gzip.decompress(file.read_bytes()).splitlines()
        [delivery] = json.loads(line)["deliveries"]
        assert [one["exception"] for one in delivery["failures"]] == ["ValueError"]


class TestAnAbandonedBackfill:
    def test_resumes_its_handler(
        self, replicate: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: it was read from the replica as still running, so the pause stayed."""
        monkeypatch.setattr(progress, "_SLICE", 1)
        for _ in range(2):
            Outbox().given("tests.ParcelSent", **FIELDS)
        run_pass()

        @subscribe("tests.ParcelSent", ordered=True)
        def send() -> None: ...

        Outbox()
        with pytest.raises(Died), failpoints.armed(failpoints.AFTER_STEP, die):
            operations.backfill(operations.Choice(handler="tests.send"), **BY)
        replicate()

        operation = operations.give_up(on_primary(Operation).get().pk, by="ann")

        assert operation.state == "given_up"
        assert on_primary(Subscription).get().paused_at is None


class TestACommandThatNamesAKey:
    def test_acts_on_rows_that_the_replica_does_not_have_yet(self, replicate: Callable[[], None]):
        """Failed: the replay found no event of that key."""

        @subscribe("tests.ParcelSent")
        def send() -> None: ...

        Outbox().given("tests.ParcelSent", **FIELDS)
        run_messages(run_pass())

        outbox_command("replay", str(PARCEL), "--reason", "a test")

        assert on_primary(Delivery).get().state == "pending"


class TestMinutes:
    def test_are_added_in_a_transaction_of_the_primary(
        self, replicate: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ):
        """Failed: the transaction was one of the replica, so half of a write stayed."""
        now = clock.now()
        tallies = {(now, "a"): Counter(done=1), (now, "b"): Counter(unknown=1)}

        with pytest.raises(Exception, match="unknown"):
            minutes._store(tallies)

        assert not on_primary(Minute).exists()


class TestAModuleThatDecidesOrStores:
    def test_does_not_read_through_a_router(
        self, replicate: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        reads = Reads()
        monkeypatch.setattr(router, "routers", [reads])
        monkeypatch.setattr(resumption, "ABANDONED_AFTER", timedelta(0))
        runs: list[int] = []

        @subscribe("tests.ParcelSent", backoff_base=0, attempts=2, ordered=True)
        def send() -> None:
            runs.append(1)
            if len(runs) < 5:
                raise ValueError("the depot is closed")

        outbox, all_of_it = Outbox(), operations.Choice()
        outbox.given("tests.ParcelSent", **FIELDS)
        outbox.given("tests.ParcelSent", **FIELDS)
        run_messages(run_pass())
        run_messages(run_pass())  # the first is dead
        operations.retry(all_of_it, **BY, rate=None)
        run_messages(run_pass())
        run_messages(run_pass())
        operations.pause("tests.send", **BY)
        operations.resume("tests.send", by="ann")
        dead = on_primary(Delivery).get(state="dead")
        operations.correct(dead.pk, masked(first_event()), **BY)
        run_messages(run_pass())
        run_messages(run_pass())
        run_messages(run_pass())
        dry_run(dead.pk)
        operations.preview("replay", all_of_it)
        operations.replay(all_of_it, **BY, rate=None)
        with pytest.raises(Died), failpoints.armed(failpoints.AFTER_STEP, die):
            operations.discard(all_of_it, **BY, rate=None)
        operations.continue_operation(on_primary(Operation).get(state="running").pk, by="ann")
        on_primary(Delivery).filter(event=first_event()).delete()
        operations.backfill(operations.Choice(handler="tests.send", event="tests.ParcelSent"), **BY)
        run_messages(run_pass())
        redact(subject=f"customer:{CUSTOMER}", force=True, **BY)
        operations.end("tests.send", **BY)
        on_primary(Event).update(emitted_at="2020-01-01T00:00:00Z")
        retention.prune(older_than=timedelta(days=1), archive=tmp_path / "old", by="ann")
        minutes.flush()

        assert not on_primary(Event).filter(name="tests.ParcelSent").exists()
        assert reads.models == []

"""Pruning by event type, the archive, and the storage options of the tables."""

from __future__ import annotations

import fcntl
import gzip
import json
import logging
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from outbox import DomainEvent, operations, retention, subscribe
from outbox.checks import check_settings
from outbox.ids import first_id_at
from outbox.models import Attempt, Delivery, Event, Operation
from outbox.retention import archive, batches
from outbox.tasks import prune_old_events
from outbox.testing import Outbox
from tests.outbox.command import outbox_command, refused

pytestmark = pytest.mark.usefixtures("own_registry")

MONTH = timedelta(days=30)


@pytest.fixture
def keep(settings: Settings) -> Callable[..., None]:
    """Set OUTBOX["RETENTION"]; names with "__" for the dot."""

    def set_days(**days: float | None) -> None:
        named = {name.replace("__", "."): value for name, value in days.items()}
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": named}

    return set_days


def settled(number: int = 1, *, name: str = "parcels.Sent", days: int = 100, **more: Any) -> None:
    """Store events of this age that their handler processed at the second attempt."""

    @subscribe(name, name=f"tests.note_{uuid4()}", backoff_base=0)
    def note(attempt: int) -> None:
        if attempt == 1:
            raise RuntimeError("the first one")

    outbox = Outbox()
    rows = [outbox.given(name, parcel_id=uuid4(), **more) for _ in range(number)]
    Event.objects.filter(pk__in=[row.pk for row in rows]).update(
        emitted_at=F("emitted_at") - timedelta(days=days)
    )
    outbox.deliver_all(raise_errors=False)


def names() -> list[str]:
    return sorted(Event.objects.values_list("name", flat=True))


class TestRetention:
    def test_differs_by_event_type(self, keep: Callable[..., None]):
        """Seen to fail with the default for all, and with the default for none."""
        settled(name="parcels.Sent")
        settled(name="parcels.Paid")
        settled(name="parcels.Lost")
        keep(default=90, parcels__Paid=400, parcels__Lost=30)

        assert operations.prune() == 2

        assert names() == ["parcels.Paid"]

    def test_keeps_events_without_a_limit_forever(self, keep: Callable[..., None]):
        settled(name="parcels.Sent")
        settled(name="parcels.Paid")
        keep(parcels__Sent=90)

        assert operations.prune() == 1
        assert names() == ["parcels.Paid"]

    def test_can_be_unlimited_for_one_type_despite_a_default(self, keep: Callable[..., None]):
        settled(name="parcels.Sent")
        settled(name="parcels.Paid")
        keep(default=90, parcels__Paid=None)

        operations.prune()

        assert names() == ["parcels.Paid"]

    def test_is_replaced_by_the_age_of_the_command(self, keep: Callable[..., None]):
        settled(days=50)
        keep(default=90)

        assert operations.prune() == 0
        assert operations.prune(older_than=MONTH) == 1

    def test_of_zero_is_valid_and_is_recorded(
        self, keep: Callable[..., None], caplog: pytest.LogCaptureFixture
    ):
        settled()
        keep(default=900)

        with caplog.at_level(logging.INFO, logger="outbox"):
            removed = operations.prune(older_than=timedelta(0))

        assert removed == 1
        assert Operation.objects.get().choice == {"older_than": "0:00:00"}
        assert "pruned 1 events older than 0:00:00" in caplog.text

    def test_of_a_hundred_years_deletes_nothing(self, keep: Callable[..., None]):
        """Failed after 56 years: an id of an event has no time before 1970."""
        settled()
        keep(default=36_500)

        assert operations.prune() == 0
        assert not Operation.objects.filter(state=Operation.State.RUNNING).exists()

    def test_deletes_nothing_without_a_setting(self):
        settled()

        assert operations.prune() == 0

    def test_reads_no_event_of_a_type_that_is_kept(self, keep: Callable[..., None]):
        """Its queries read one type by name, up to the first batch of young events."""
        settled(3, name="parcels.Paid")
        settled(3, name="parcels.Sent", days=1)
        keep(parcels__Sent=90)

        with CaptureQueriesContext(connection) as queries:
            operations.prune(batch=1)

        walked = [one["sql"] for one in queries if "ORDER BY name, seq" in one["sql"]]
        assert len(walked) == 1
        assert "parcels.Sent" in walked[0]

    def test_continues_after_events_that_are_still_owed(self):
        """For any number of them. Seen to fail with a stop at the first empty batch."""
        settled(2 * retention.SLICE_BATCHES)
        Delivery.objects.update(state="dead")
        settled(2)

        assert operations.prune(older_than=MONTH, batch=1) == 2
        assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}

    def test_waits_after_each_batch(self, monkeypatch: pytest.MonkeyPatch):
        """Longer than that took. Seen to fail without, and with a rest just as long."""
        settled(3)
        clock = Clock()
        monkeypatch.setattr(retention, "time", clock)
        monkeypatch.setattr(retention, "prune_some", clock.lasting(2.0, batches.prune_some))

        assert operations.prune(older_than=MONTH, batch=1) == 3

        assert clock.rests == [2.0 * retention.REST] * 3

    def test_ends_at_its_time_limit(self, keep: Callable[..., None]):
        settled(3)
        keep(default=90)

        assert operations.prune(at_most=timedelta(microseconds=1), batch=1) == 0
        assert operations.prune(at_most=timedelta(0), batch=1) == 0
        assert Event.objects.count() == 3

    def test_starts_no_further_type_after_its_time_limit(self, monkeypatch: pytest.MonkeyPatch):
        """Seen to fail with the time asked for between batches alone: a horizon for each type."""
        settled(2, name="parcels.Paid")
        settled(2, name="parcels.Sent")
        clock = Clock()
        monkeypatch.setattr(retention, "time", clock)
        monkeypatch.setattr(retention, "prune_some", clock.lasting(2.0, batches.prune_some))

        with CaptureQueriesContext(connection) as queries:
            removed = operations.prune(older_than=MONTH, at_most=timedelta(seconds=1), batch=1)

        assert removed == 1
        assert len([one for one in queries if 'INTO "outbox_horizon"' in one["sql"]]) == 1
        assert not [one for one in queries if "= 'parcels.Sent'" in one["sql"]]


class TestRunsWithATimeLimit:
    """Half of the time of each suffices for no more than old events that have to stay."""

    @pytest.fixture(autouse=True)
    def _slow_reads(self, db: None, own_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        monkeypatch.setattr(retention, "time", clock)
        monkeypatch.setattr(retention, "read_slice", clock.lasting(0.6, batches.read_slice))
        settled(4 * retention.SLICE_BATCHES, name="parcels.Paid", days=100)
        Delivery.objects.update(state="dead")

    def run(self) -> int:
        return operations.prune(older_than=MONTH, at_most=timedelta(seconds=2), batch=1)

    def test_prune_the_types_after_one_whose_events_stay(self):
        """Failed: each run began with the first type, and ended in it."""
        settled(2, name="parcels.Sent")

        removed = sum(self.run() for _ in range(50))

        assert removed == 2
        assert set(names()) == {"parcels.Paid"}

    def test_prune_the_later_events_of_a_type_whose_first_ones_stay(self):
        """Failed: each run began with the first event."""
        settled(2, name="parcels.Paid", days=50)
        for event in Event.objects.all():  # as if they had been emitted then
            id = UUID(int=first_id_at(event.emitted_at).int + event.seq)
            Event.objects.filter(pk=event.pk).update(id=id)

        removed = sum(self.run() for _ in range(50))

        assert removed == 2
        assert set(Delivery.objects.values_list("state", flat=True)) == {"dead"}


class Clock:
    """A clock that moves only by given durations."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)

    def lasting(self, seconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def longer(*args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return work(*args, **kwargs)

        return longer


class TestThePeriodicTask:
    def test_prunes_by_the_settings(self, keep: Callable[..., None]):
        settled()
        keep(default=90)

        prune_old_events()

        assert names() == []

    def test_does_nothing_without_a_setting(self):
        settled()

        prune_old_events()

        assert names() == ["parcels.Sent"]


class TestTheCheck:
    @pytest.mark.parametrize(
        "wrong",
        [
            *(90, {"default": 0}, {"default": "90"}, {"default": -1}),
            *({"default": 36_601}, {"default": float("inf")}, {"freight.ShipmentBooked": 10**6}),
        ],
    )
    def test_refuses_an_invalid_retention(self, settings: Settings, wrong: Any):
        settings.OUTBOX = {"RETENTION": wrong}

        assert [one.id for one in check_settings()] == ["outbox.E012"]

    def test_accepts_a_type_that_is_kept_forever(self, settings: Settings):
        """Seen to fail where each value must be a number."""
        settings.OUTBOX = {"RETENTION": {"default": 90, "freight.ShipmentBooked": None}}

        assert check_settings() == []

    def test_accepts_a_hundred_years(self, settings: Settings):
        settings.OUTBOX = {"RETENTION": {"default": 36_525}}

        assert check_settings() == []

    def test_finds_an_undeclared_event_name(self, settings: Settings):
        settings.OUTBOX = {"RETENTION": {"freight.ShipmentBookd": 30}}

        [found] = check_settings()

        assert (found.id, found.hint) == ("outbox.W021", "Did you mean freight.ShipmentBooked?")


class TestTheArchive:
    def test_has_all_deleted_rows(self, tmp_path: Path):
        class Sent(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            colour: str

        settled(7, name=Sent.event_name, colour="赤")
        ids = {str(one) for one in Event.objects.values_list("id", flat=True)}

        operations.prune(older_than=MONTH, archive=tmp_path, batch=3)

        pruned = archived(tmp_path)
        assert {one["id"] for one in pruned} == ids
        assert pruned[0]["payload"]["colour"] == "赤"
        [delivery] = pruned[0]["deliveries"]
        assert delivery["state"] == "done"
        assert delivery["handler"].startswith("tests.note_")
        assert delivery["failures"][0]["message"] == "the first one"

    def test_has_no_value_of_an_event_whose_class_is_gone(self, tmp_path: Path):
        """Failed: it had the values, since no schema marks those of a person."""
        settled(name="elsewhere.Noted", email="hanako@example.com")

        operations.prune(older_than=MONTH, archive=tmp_path)

        assert archived(tmp_path)[0]["payload"] == {"email": "***", "parcel_id": "***"}

    def test_has_the_payload_that_was_blanked_before_its_class_was_gone(self, tmp_path: Path):
        settled(name="elsewhere.Noted", email="", weight=7)
        Event.objects.update(redacted_at=F("emitted_at"))

        operations.prune(older_than=MONTH, archive=tmp_path)

        payload = archived(tmp_path)[0]["payload"]
        assert (payload["email"], payload["weight"]) == ("", 7)

    def test_is_on_disk_before_any_row_is_deleted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Killed at the delete, it has lost nothing. Seen to fail with the delete first."""
        settled(2)
        seen: list[int] = []

        def killed(*_args: Any, **_kwargs: Any) -> None:
            seen.extend(1 for _ in archived(tmp_path, "events-*.part"))
            raise KeyboardInterrupt

        monkeypatch.setattr(batches, "_remove", killed)

        with pytest.raises(KeyboardInterrupt):
            operations.prune(older_than=MONTH, archive=tmp_path)

        assert len(seen) == 2
        assert Event.objects.count() == 2

    def test_stops_the_run_if_it_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A full disk stops pruning. Seen to fail with the error of the archive passed over."""
        settled()

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("outbox.retention.archive.os.fsync", full)

        with pytest.raises(OSError, match="No space"):
            operations.prune(older_than=MONTH, archive=tmp_path)

        said = refused("prune", "--older-than", "30d", "--archive", str(tmp_path))
        assert said.startswith(f"{tmp_path} cannot be written: No space left on device. ")

        assert Event.objects.count() == 1
        assert Attempt.objects.count() == 1

    def test_that_is_no_folder_ends_the_command_with_the_next_step(self, tmp_path: Path):
        """Failed: a traceback."""
        settled()
        file = tmp_path / "archive"
        file.write_text("")

        said = refused("prune", "--older-than", "30d", "--archive", str(file))

        assert said == (
            f"{file} cannot be written: File exists. No event was deleted before it was archived. "
            "To continue the operation, run the command again."
        )
        outbox_command("prune", "--older-than", "30d", "--archive", str(tmp_path))
        assert Operation.objects.get().state == "finished"

    def test_has_whole_lines_after_a_write_that_failed(self, tmp_path: Path):
        """The disk takes a part of a batch. Seen to fail: the file ended in half a member."""
        settled(2)
        first, second = Event.objects.order_by("seq")

        with (
            pytest.raises(OSError, match="too large"),
            ExitStack() as disk,
            archive.archive_in(tmp_path) as store,
        ):
            store.add([first], using="default")
            [written] = tmp_path.iterdir()
            disk.enter_context(no_room_beyond(written.stat().st_size + 20))
            store.add([second], using="default")
        with archive.archive_in(tmp_path):
            pass

        assert [one["seq"] for one in archived(tmp_path)] == [first.seq]

    def test_has_whole_lines_after_a_kill_in_the_middle_of_one(self, tmp_path: Path):
        """The next run repairs the file. Seen to fail without that: it ends in half a member."""
        whole = gzip.compress(b'{"id": 1}\n') + gzip.compress(b'{"id": 2}\n')
        torn = gzip.compress(b'{"id": 3}\n' * 1000)[:-9]
        (tmp_path / "events-1.ndjson.gz.part").write_bytes(whole + torn)
        (tmp_path / "events-2.ndjson.gz.part").write_bytes(torn)

        settled()
        operations.prune(older_than=MONTH, archive=tmp_path)

        assert [one["id"] for one in archived(tmp_path, "events-1.ndjson.gz")] == [1, 2]
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".gz"]

    def test_skips_a_file_that_another_run_has_just_finished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        settled()
        gone = tmp_path / "events-1.ndjson.gz.part"
        monkeypatch.setattr(Path, "glob", lambda _folder, _pattern: iter([gone]))

        assert operations.prune(older_than=MONTH, archive=tmp_path) == 1

    def test_is_begun_again_if_another_run_deletes_the_new_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The other run takes it for the file of a killed run, before it is locked."""
        settled()
        flock, deleted = fcntl.flock, list[Path]()

        def lock_after_the_other_run(file: Any, how: int) -> None:
            if how == fcntl.LOCK_EX and not deleted:
                deleted.append(Path(file.name))
                archive._recover(deleted[0])
            flock(file, how)

        monkeypatch.setattr("outbox.retention.archive.fcntl.flock", lock_after_the_other_run)

        assert operations.prune(older_than=MONTH, archive=tmp_path) == 1
        assert len(archived(tmp_path)) == 1
        assert not deleted[0].exists()

    def test_does_not_use_a_file_that_another_run_writes(self, tmp_path: Path):
        """Seen to fail without the lock."""
        settled(2)
        with archive.archive_in(tmp_path) as other:
            other.add([Event.objects.order_by("seq")[0]], using="default")

            with archive.archive_in(tmp_path):
                assert len(list(tmp_path.glob("*.part"))) == 1

            other.add([Event.objects.order_by("seq")[1]], using="default")

        assert len(archived(tmp_path)) == 2

    def test_is_not_created_if_nothing_is_deleted(self, tmp_path: Path):
        settled(days=1)

        operations.prune(older_than=MONTH, archive=tmp_path)

        assert list(tmp_path.iterdir()) == []

    def test_can_be_set_for_all_runs(self, tmp_path: Path, settings: Settings):
        settled()
        settings.OUTBOX = {"RETENTION": {"default": 30}, "ARCHIVE": str(tmp_path / "old")}

        prune_old_events()

        assert len(archived(tmp_path / "old")) == 1


class TestTheCommand:
    def test_uses_the_ages_of_the_settings(self, keep: Callable[..., None]):
        settled()
        settled(name="parcels.Paid")
        keep(default=90, parcels__Paid=400)

        assert outbox_command("prune", "--dry-run").startswith("1 event would be deleted")
        assert outbox_command("prune").startswith("1 event deleted")

    def test_requires_an_age_without_a_setting(self):
        assert "--older-than" in refused("prune")

    def test_archives(self, tmp_path: Path):
        settled()

        outbox_command("prune", "--older-than", "30d", "--archive", str(tmp_path))

        assert len(archived(tmp_path)) == 1


@pytest.mark.postgresql
class TestTheTables:
    def test_are_vacuumed_by_the_number_of_changes(self):
        assert "autovacuum_vacuum_scale_factor=0.01" in options_of("outbox_delivery")
        assert "autovacuum_vacuum_insert_scale_factor=0.05" in options_of("outbox_event")

    def test_reserve_free_space_for_updates_of_deliveries(self):
        assert "fillfactor=90" in options_of("outbox_delivery")


def options_of(table: str) -> list[str]:
    """Return the storage parameters."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [table])
        return cursor.fetchone()[0] or []


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a number of bytes, as on a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def archived(folder: Path, pattern: str = "events-*.ndjson.gz") -> list[dict[str, Any]]:
    lines = [
        line
        for path in sorted(folder.glob(pattern))
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]
    assert all(re.fullmatch(r"\{.*\}", line) for line in lines)
    return [json.loads(line) for line in lines]

"""The page of periodic tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox.admin import periodic
from outbox.models import Heartbeat

if not apps.is_installed("django_celery_beat"):
    pytest.skip("django-celery-beat is not installed.", allow_module_level=True)
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

pytestmark = pytest.mark.django_db

URL = reverse("admin:outbox_minute_periodic")


def every(seconds: int, *, last: timedelta | None, **more: Any) -> PeriodicTask:
    interval, _is_new = IntervalSchedule.objects.get_or_create(every=seconds, period="seconds")
    moment = timezone.now() - last if last is not None else None
    row = PeriodicTask.objects.create(interval=interval, task="tests.sweep", **more)
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=moment)
    return row


def the(name: str) -> periodic.PeriodicTaskRow:
    return next(one for one in periodic.periodic_tasks() if one.name == name)


class TestAPeriodicTask:
    def test_starts_an_interval_after_its_last_start(self):
        with time_machine.travel(timezone.now(), tick=False):
            every(60, last=timedelta(seconds=10), name="sweep", queue="tests")

            work = the("sweep")

        assert work.last is not None
        assert work.next is not None
        assert abs(work.next - work.last - timedelta(seconds=60)) < timedelta(seconds=2)
        assert (work.status, work.queue) == (("done", "on"), "tests")

    def test_is_late_if_its_next_start_is_long_overdue(self):
        every(60, last=timedelta(minutes=30, seconds=30), name="sweep")

        state, words = the("sweep").status

        assert state == "dead"
        assert words.startswith("late by 29 min")

    def test_is_not_late_until_beat_stores_its_starts(self):
        every(10, last=timedelta(minutes=4), name="sweep")

        assert the("sweep").status[0] == "done"

    def test_that_never_ran_is_late_from_its_creation(self):
        row = every(60, last=None, name="sweep")
        hour_ago = timezone.now() - timedelta(hours=1)
        PeriodicTask.objects.filter(pk=row.pk).update(date_changed=hour_ago)

        assert the("sweep").status[0] == "dead"

    def test_of_a_crontab_has_a_next_time(self):
        crontab = CrontabSchedule.objects.create(minute="0", hour="3", timezone="UTC")
        PeriodicTask.objects.create(
            crontab=crontab, task="t", name="nightly", last_run_at=timezone.now()
        )

        work = the("nightly")

        assert work.next is not None
        assert (work.next.hour, work.next.minute) == (3, 0)
        assert not work.late

    def test_of_a_crontab_without_a_date_is_invalid(self):
        """Failed: the page was an error, and showed no task."""
        never = CrontabSchedule.objects.create(
            minute="0", hour="0", day_of_month="31", month_of_year="2", timezone="UTC"
        )
        PeriodicTask.objects.create(crontab=never, task="t", name="never")
        every(60, last=timedelta(days=1), name="sweep")

        first, second = periodic.periodic_tasks()

        assert (first.name, first.status[0], first.next) == ("never", "dead", None)
        assert first.status[1].startswith("invalid schedule: ")
        assert "Error: " in first.status[1]  # its text depends on the version of Celery
        assert second.status[1].startswith("late by")

    def test_before_its_start_time_is_not_late(self):
        tomorrow = timezone.now() + timedelta(days=1)
        every(60, last=timedelta(days=3), name="sweep", start_time=tomorrow)

        assert the("sweep").next == tomorrow
        assert not the("sweep").late

    def test_that_is_disabled_is_never_late_and_has_no_next_start(self):
        every(60, last=timedelta(days=3), name="sweep", enabled=False)

        work = the("sweep")

        assert (work.status[0], work.next, work.late) == ("parked", None, timedelta(0))

    def test_is_listed_first_if_late_and_last_if_disabled(self):
        every(60, last=timedelta(0), name="a")
        every(60, last=timedelta(days=1), name="b", enabled=False)
        every(60, last=timedelta(days=1), name="c")

        assert [one.name for one in periodic.periodic_tasks()] == ["c", "a", "b"]


class TestTheScheduleOfTheSettings:
    def test_is_shown_without_django_celery_beat(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(apps, "is_installed", lambda name: False)

        work = the("outbox.relay")

        assert (work.task, work.schedule, work.last) == ("outbox.relay", "every 10 s", None)
        assert work.status[0] == "done"


class TestThePage:
    def test_shows_the_next_step_without_tasks(self, admin_client: Client):
        page = admin_client.get(URL).content.decode()

        assert "No task is scheduled." in page
        assert "outbox-stack" not in page

    def test_shows_an_invalid_schedule(self, admin_client: Client):
        never = CrontabSchedule.objects.create(day_of_month="30", month_of_year="2")
        PeriodicTask.objects.create(crontab=never, task="t", name="never")

        page = admin_client.get(URL).content.decode()

        assert "never" in page
        assert "invalid schedule" in page

    def test_marks_late_tasks_and_a_silent_beat(self, admin_client: Client):
        row = every(60, last=timedelta(days=1, seconds=30), name="sweep")
        now = timezone.now()
        hour = timedelta(hours=1)
        Heartbeat.objects.create(
            kind="beat", name="beat", queues=[], started_at=now, seen_at=now - hour
        )

        page = admin_client.get(URL).content.decode()

        assert "outbox-dead" in page
        assert "late by 23 h 59 min" in page
        assert "silent for 1 h" in page
        assert reverse("admin:django_celery_beat_periodictask_change", args=[row.pk]) in page

    def test_costs_the_same_with_many_entries(
        self, admin_client: Client, django_assert_max_num_queries: Any
    ):
        for number in range(30):
            every(60 + number, last=timedelta(0), name=f"sweep {number}")

        with django_assert_max_num_queries(8):
            admin_client.get(URL)

    def test_is_linked_from_the_other_pages(self, admin_client: Client):
        overview = admin_client.get(reverse("admin:outbox_minute_changelist")).content.decode()

        assert f'href="{URL}"' in overview

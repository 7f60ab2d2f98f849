"""Results of tasks are removed with their events, and shown without personal data."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from outbox import operations, timeline_of
from outbox.checks.settings import _unknown_events
from outbox.models import Event
from outbox.monitor.sentences import sentences_of
from outbox.privacy.sensitive import masked
from outbox.retention import horizons
from tests.outbox.tasks_backend import jobs
from tests.outbox.tasks_backend.conftest import Configure
from tests.outbox.tasks_backend.jobs import TaskResultStatus, api

pytestmark = pytest.mark.django_db(transaction=True)


class TestRetention:
    def test_removes_a_result_with_its_event(self, configure: Configure):
        outbox = configure()
        result = jobs.add.enqueue(1, 2)
        outbox.deliver_all()

        operations.prune(older_than=timedelta(0))

        with pytest.raises(api.TaskResultDoesNotExist):
            result.refresh()

    def test_keeps_a_task_that_has_not_finished(self, configure: Configure):
        outbox = configure(attempts=1)
        result = jobs.fail_until.enqueue(2)
        outbox.deliver_all(raise_errors=False)

        operations.prune(older_than=timedelta(0))

        result.refresh()
        assert result.status is TaskResultStatus.FAILED

    def test_has_an_age_for_all_queues_or_for_one(self, configure: Configure, settings: Settings):
        configure("default", "mail")
        jobs.note.enqueue()
        jobs.note.using(queue_name="mail").enqueue()
        mail = "outbox.TaskEnqueued.default.mail"
        settings.OUTBOX = {**settings.OUTBOX, "RETENTION": {"outbox.TaskEnqueued": 7, mail: 1}}

        before = dict(horizons())

        assert before[mail] - before["outbox.TaskEnqueued.default.default"] == pytest.approx(
            timedelta(days=6), abs=timedelta(seconds=1)
        )
        assert list(_unknown_events()) == []


class TestPersonalData:
    def test_in_arguments_is_masked(self, configure: Configure):
        configure()
        jobs.note.enqueue("hanako@example.com", name="Hanako")

        shown = masked(Event.objects.get())

        assert (shown["args"], shown["kwargs"]) == ("***", "***")
        assert shown["task"] == "tests.outbox.tasks_backend.jobs.note"

    def test_in_a_return_value_is_not_archived(self, configure: Configure, tmp_path: Path):
        outbox = configure()
        jobs.create_group.enqueue("Hanako")
        outbox.deliver_all()

        operations.prune(older_than=timedelta(0), archive=tmp_path)

        (file,) = tmp_path.glob("*.gz")
        line = gzip.decompress(file.read_bytes()).decode()
        assert "Hanako" not in line
        assert json.loads(line)["deliveries"][0]["returned"] is None


class TestATaskInTheMonitor:
    def test_is_named_by_its_path_in_the_timeline(self, configure: Configure):
        outbox = configure()
        jobs.note.enqueue()
        outbox.deliver_all()

        (sentence,) = sentences_of(timeline_of(key=jobs.note.module_path), span=str)

        assert sentence.text == "Task tests.outbox.tasks_backend.jobs.note enqueued."

    def test_is_named_by_its_path_on_the_pages_of_the_admin(
        self, configure: Configure, client: Client
    ):
        outbox = configure()
        jobs.note.enqueue()
        outbox.deliver_all()
        client.force_login(User.objects.create_superuser("staff"))
        event = Event.objects.get()

        for url in (
            reverse("admin:outbox_event_change", args=[event.pk]),
            reverse("admin:outbox_delivery_change", args=[event.deliveries.get().pk]),
        ):
            assert "tests.outbox.tasks_backend.jobs.note" in client.get(url).text

"""Django's tasks with several databases: each task and its result are read from their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, router, transaction
from pytest_django import Settings

from tests.outbox.databases.test_emission import deliver_in, events_in
from tests.outbox.tasks_backend import jobs
from tests.outbox.tasks_backend.conftest import Configure, configure
from tests.outbox.tasks_backend.jobs import TaskResultStatus, api
from tests.outbox.two_databases import SHARD, sync_both, unreachable

__all__ = ["configure"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def tasks(shard: str, configure: Configure) -> None:
    configure(attempts=1)
    sync_both()


class ReadsTheOther:
    """Reads from the second database: a replica that lacks all rows."""

    def db_for_read(self, _model: Any, **_hints: Any) -> str:
        return SHARD


class TestATask:
    def test_has_the_attempts_of_the_primary_where_a_router_reads_a_replica(
        self,
        configure: Configure,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ):
        """Failed: the second attempt was the first one, and its result had no error."""
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": []}
        outbox = configure(attempts=2)
        found: list[Any] = []

        def note(task_result: Any, **_kwargs: Any) -> None:
            found.append((task_result.attempts, len(task_result.errors)))

        jobs.fail_until.enqueue(2)
        monkeypatch.setattr(router, "routers", [ReadsTheOther()])
        signals = (api.task_started, api.task_finished)
        for one in signals:
            one.connect(note)
        try:
            outbox.deliver_all(raise_errors=False)
            outbox.let_pass(timedelta(hours=1))
            outbox.deliver_all()
        finally:
            for one in signals:
                one.disconnect(note)

        assert found == [(1, 0), (2, 1), (2, 1)]


class TestAResult:
    def test_of_a_task_in_another_database_is_found(self, shard: str):
        """Failed: only the first database was asked."""
        with transaction.atomic(using=shard):
            result = jobs.add.enqueue(1, 2)
        assert events_in(shard) == ["outbox.TaskEnqueued.default.default"]
        assert jobs.add.get_result(result.id) == result

        deliver_in(shard)
        result.refresh()

        assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)

    def test_has_the_errors_of_its_database(self, shard: str):
        with transaction.atomic(using=shard):
            result = jobs.fail_until.enqueue(2)
        deliver_in(shard)

        result.refresh()

        assert result.status is TaskResultStatus.FAILED
        assert len(result.errors) == 1

    def test_of_a_task_in_the_first_one_needs_no_other(self, shard: str):
        result = jobs.add.enqueue(1, 2)

        with unreachable(shard):
            assert jobs.add.get_result(result.id) == result

    def test_is_not_said_to_be_missing_while_a_database_is_down(self, shard: str):
        with unreachable(shard), pytest.raises(OperationalError):
            jobs.add.get_result(str(uuid4()))

    def test_of_no_database_does_not_exist(self):
        with pytest.raises(api.TaskResultDoesNotExist):
            jobs.add.get_result(str(uuid4()))

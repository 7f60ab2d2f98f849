"""Tasks that Celery sends after the body of another: nobody repeats a call that was not stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from django.db import OperationalError, connection, transaction

from outbox.celery import OutboxTask
from outbox.models import Event
from outbox.testing import Outbox
from tests.outbox.outages import cut_connection

pytestmark = pytest.mark.django_db(transaction=True)

Body = Callable[[], object]


class Fail:
    """Fails this thread's first statements about events, as a locked database does."""

    def __init__(self, *, times: int = 1) -> None:
        self.left = times

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if "outbox_event" in sql and self.left:
            self.left -= 1
            raise OperationalError("database is locked")
        return execute(sql, params, many, context)


@pytest.fixture
def follow(celery: Celery, sender: Outbox) -> Any:
    @celery.task(base=OutboxTask, shared=False, name="parcels.follow")
    def run(_given: Any = None) -> None: ...

    return run


def run(celery: Celery, body: Body, *, base: Any = None, **request: Any) -> str:
    """Run a task with this body by Celery's tracer, as a worker does; return its state."""
    options = {} if base is None else {"base": base}

    @celery.task(shared=False, name="parcels.first", **options)
    def first() -> None:
        body()

    given = {"id": "t1", "headers": {}, "delivery_info": {}, **request}
    end = build_tracer(first.name, first, app=celery)("t1", [], {}, given)
    return str(end.info.state) if end.info else "SUCCESS"


def stored() -> list[str]:
    return list(Event.objects.order_by("seq").values_list("payload__task", flat=True))


@pytest.mark.parametrize("base", [None, OutboxTask], ids=["plain", "with the base"])
class TestATaskThatFollows:
    @pytest.mark.parametrize("option", ["chain", "callbacks"])
    def test_is_stored_although_a_statement_fails_once(
        self, celery: Celery, follow: Any, base: Any, option: str
    ):
        """Failed: the first task, which had run, was a failure, and the chain ended."""
        fail = Fail()

        with connection.execute_wrapper(fail):
            state = run(celery, lambda: None, base=base, **{option: [follow.s()]})

        assert fail.left == 0
        assert (state, stored()) == ("SUCCESS", ["parcels.follow"])

    @pytest.mark.postgresql
    @pytest.mark.usefixtures("no_health_check")
    def test_is_stored_although_the_connection_was_cut_during_the_body(
        self, celery: Celery, follow: Any, base: Any
    ):
        """Failed likewise."""
        state = run(celery, cut_connection, base=base, chain=[follow.s()])

        assert (state, stored()) == ("SUCCESS", ["parcels.follow"])

    def test_is_stored_after_a_failure_although_statements_fail(
        self, celery: Celery, follow: Any, base: Any
    ):
        """Failed with two errors: Celery itself repeats it once."""

        def fail() -> None:
            raise LookupError

        with connection.execute_wrapper(Fail(times=2)):
            state = run(celery, fail, base=base, errbacks=[follow.s()])

        assert (state, stored()) == ("FAILURE", ["parcels.follow"])


class TestATaskThatFollowsAnEagerOne:
    def test_fails_at_once(self, celery: Celery, follow: Any):
        """A request of the web may call `apply()`, and must not wait for the database."""

        @celery.task(shared=False, name="parcels.eager")
        def eager() -> None: ...

        with connection.execute_wrapper(Fail()), pytest.raises(OperationalError):
            eager.apply(link=follow.s())

        assert stored() == []


class TestACallOfABody:
    def test_fails_at_once(self, celery: Celery, follow: Any):
        """The task can catch the error, and Celery can repeat the task."""
        with connection.execute_wrapper(Fail()):
            state = run(celery, follow.delay)

        assert (state, stored()) == ("FAILURE", [])

    def test_fails_with_the_transaction_around_it(self, celery: Celery, follow: Any):
        def call() -> None:
            with transaction.atomic():
                follow.apply_async(parent_id="t1")

        with connection.execute_wrapper(Fail()):
            state = run(celery, call)

        assert (state, stored()) == ("FAILURE", [])

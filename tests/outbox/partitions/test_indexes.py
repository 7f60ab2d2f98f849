"""Migrations that add or remove an index of a partitioned table."""

from __future__ import annotations

from datetime import date

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.state import ProjectState
from django.db.models import Index, Q

from outbox.partitions import indexes
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.catalogue import EVENT, partitions
from outbox.schema import AddIndexBesideWrites
from tests.migrations_beside import Watch
from tests.outbox.converted import days_later, in_another_transaction, rows
from tests.outbox.drive import emit_orders
from tests.threads import in_thread, wait_until_blocked

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.usefixtures("converted"),
]

INDEX = Index(fields=["actor"], condition=Q(actor__gt=""), name="outbox_event_actor")


@pytest.fixture(scope="module")
def state() -> ProjectState:
    return ProjectState.from_apps(apps)


def add(state: ProjectState) -> None:
    operation = AddIndexBesideWrites(model_name="event", index=INDEX)
    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("outbox", editor, state, state)


def remove(state: ProjectState) -> None:
    operation = AddIndexBesideWrites(model_name="event", index=INDEX)
    with connection.schema_editor(atomic=False) as editor:
        operation.database_backwards("outbox", editor, state, state)


def facts() -> tuple[bool, int]:
    """Return whether the index is valid, and how many partitions have it."""
    [(is_valid, number)] = rows(
        "SELECT indisvalid, (SELECT count(*) FROM pg_inherits WHERE inhparent = indexrelid) "
        "FROM pg_index WHERE indexrelid = %s::regclass",
        INDEX.name,
    )
    return is_valid, number


class TestAnIndex:
    def test_is_built_on_each_partition(self, state: ProjectState):
        add(state)

        assert facts() == (True, len(partitions(EVENT, using="default")))
        definitions = rows(
            "SELECT DISTINCT pg_get_expr(indpred, indrelid) FROM pg_index "
            "WHERE indexrelid::regclass::text LIKE %s",
            "outbox_event_%actor",
        )
        assert definitions == [("((actor)::text > ''::text)",)]

    def test_blocks_no_writer_while_it_is_built(self, state: ProjectState):
        emit_orders(3)
        watch = Watch("outbox")

        with connection.execute_wrapper(watch):
            add(state)

        assert watch.breaches == []

    def test_lets_others_continue_while_a_transaction_has_written(self, state: ProjectState):
        emit_orders(1)
        with in_another_transaction(f"LOCK TABLE {EVENT} IN ROW EXCLUSIVE MODE"):
            added = in_thread(lambda: add(state))
            wait_until_blocked(1)
            emit_orders(3)

        assert added() is None
        assert facts()[0]

    def test_is_finished_after_an_interruption(
        self, state: ProjectState, monkeypatch: pytest.MonkeyPatch
    ):
        built: list[str] = []

        def interrupt(*given: object) -> None:
            if len(built) == 2:
                raise KeyboardInterrupt
            built.append("")
            build(*given)  # type: ignore[arg-type]

        build = indexes._build
        with monkeypatch.context() as patch:
            patch.setattr(indexes, "_build", interrupt)
            with pytest.raises(KeyboardInterrupt):
                add(state)
        assert facts() == (False, 2)

        add(state)

        assert facts() == (True, len(partitions(EVENT, using="default")))

    def test_is_had_by_partitions_that_are_created_meanwhile_and_later(
        self, state: ProjectState, monkeypatch: pytest.MonkeyPatch
    ):
        created: list[date] = []

        def build(*given: object) -> None:
            if not created:
                with days_later(1):
                    created.extend(keep_ahead(using="default"))
            first(*given)  # type: ignore[arg-type]

        first = indexes._build
        monkeypatch.setattr(indexes, "_build", build)
        add(state)
        with days_later(2):
            keep_ahead(using="default")

        assert len(created) == 1
        assert facts() == (True, len(partitions(EVENT, using="default")))

    def test_can_be_removed_and_added_again(self, state: ProjectState):
        add(state)

        remove(state)

        assert rows("SELECT 1 FROM pg_indexes WHERE indexname LIKE '%%_actor'") == []
        add(state)
        assert facts()[0]


class TestTheMigrations:
    def test_run_back_to_the_first_release_and_forth(self):
        for name in ("0009_correction_index", "0023_tenant_index"):
            call_command("migrate", "outbox", name, verbosity=0)

        lacking = rows(
            "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid "
            "AND indrelid IN ('outbox_event'::regclass, 'outbox_delivery'::regclass)"
        )
        assert lacking == []
        assert rows("SELECT 1 FROM pg_indexes WHERE indexname = 'outbox_event_tenant'") == [(1,)]
        emit_orders(1)

    def test_do_not_run_back_beyond_the_first_release(self):
        """Their foreign keys to partitioned tables could not be created again."""
        with pytest.raises(IrreversibleError, match="of the database default are in partitions"):
            call_command("migrate", "outbox", "0008", verbosity=0)

        call_command("migrate", "outbox", verbosity=0)
        emit_orders(1)

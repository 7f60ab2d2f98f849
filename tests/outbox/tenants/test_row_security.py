"""Handlers read and write only the rows of their event's tenant, by a policy of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from outbox import BulkDelivery, DomainEvent, Receipt, emit, subscribe
from outbox.models import Event
from outbox.testing import Outbox
from outbox.worker import calls
from tests.outbox.drive import run_messages, run_pass, states

from . import row_security
from .conftest import Configure

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge", "policy"),
]

_TABLE = """
CREATE TABLE tests_note (tenant text DEFAULT current_setting('app.tenant'), box text);
ALTER TABLE tests_note ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON tests_note
    USING (tenant = current_setting('app.tenant', true))
    WITH CHECK (tenant = current_setting('app.tenant', true));
CREATE ROLE {role};
GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
ALTER DATABASE "{database}" SET role = '{role}'"""
_REMOVE = """
SET ROLE NONE;
ALTER DATABASE "{database}" RESET role;
DROP TABLE tests_note;
DROP OWNED BY {role};
DROP ROLE {role}"""


class Moved(DomainEvent, key="box"):
    box: str


@pytest.fixture
def policy(transactional_db: None, configure: Configure) -> Iterator[None]:
    """Connect as a role that the policy of the table `tests_note` applies to."""
    names = {"role": f"tests_{uuid4().hex[:12]}", "database": connection.settings_dict["NAME"]}
    execute(_TABLE.format(**names))
    connection.close()
    configure(
        CAPTURE=f"{row_security.__name__}.capture", RESTORE=f"{row_security.__name__}.restore"
    )
    yield
    execute(_REMOVE.format(**names))
    connection.close()


def execute(statement: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def note(box: str) -> None:
    """Write a row of the tenant, and check that no other tenant's row is visible."""
    execute("INSERT INTO tests_note (box) VALUES (%s)", box)
    assert execute("SELECT DISTINCT tenant FROM tests_note") == [(box.partition(" ")[0],)]


def emit_in(*tenants: str) -> None:
    for tenant in tenants:
        with transaction.atomic(), row_security.restore(tenant):
            emit(Moved(box=f"{tenant} {uuid4().hex[:20]}"))


def rows_by_tenant() -> dict[str, int]:
    """Return the number of rows of each tenant, each read as that tenant, which must be its own."""
    found = {}
    for tenant in ("acme", "bolt"):
        with transaction.atomic(), row_security.restore(tenant):
            boxes = [box for (box,) in execute("SELECT box FROM tests_note")]
        assert all(box.startswith(f"{tenant} ") for box in boxes)
        found[tenant] = len(boxes)
    return found


def subscribe_kind(kind: str) -> None:
    def plain(box: str) -> None:
        note(box)

    def with_receipt(box: str, receipt: Receipt) -> None:
        execute("SELECT count(*) FROM tests_note")  # before the receipt, outside of a transaction
        with receipt:
            note(box)

    def bulk(deliveries: Sequence[BulkDelivery]) -> None:
        for one in deliveries:
            note(one.event.key)
            one.done()

    def callback(box: str) -> None:
        transaction.on_commit(lambda: note(box))

    policies: dict[str, tuple[Any, dict[str, Any]]] = {
        "batch": (plain, {}),
        "alone": (plain, {"shared_transaction": False}),
        "receipt": (with_receipt, {"atomic": False}),
        "bulk": (bulk, {"bulk": True}),
        "callback": (callback, {}),
    }
    function, options = policies[kind]
    subscribe("tests.Moved", name="tests.note", **options)(function)


class TestRowLevelSecurity:
    @pytest.mark.parametrize("kind", ["batch", "alone", "receipt", "bulk", "callback"])
    def test_applies_to_each_kind_of_handler(self, kind: str):
        subscribe_kind(kind)
        Outbox()
        emit_in("acme", "bolt", "acme", "bolt", "acme")
        Event.objects.update(share=None)  # so that a message has deliveries of both
        run_messages(run_pass())

        assert states() == ["done"] * 5
        assert rows_by_tenant() == {"acme": 3, "bolt": 2}
        assert not calls._one_by_one, "deliveries of one tenant share a transaction"
        assert execute("SELECT current_setting('app.tenant', true)") in ([(None,)], [("",)])

    def test_refuses_a_row_without_a_tenant(self):
        """An event without a tenant has no rights, also right after one that has."""
        subscribe_kind("batch")
        Outbox()
        emit_in("acme")
        with transaction.atomic():
            emit(Moved(box="none"))
        Event.objects.update(share=None)
        run_messages(run_pass())

        assert states() == ["done", "pending"]
        assert rows_by_tenant() == {"acme": 1, "bolt": 0}


class TestATenantWithinATenant:
    def test_ends_with_its_block(self):
        with transaction.atomic(), row_security.restore("acme"):
            with row_security.restore("bolt"):
                pass
            note("acme 1")

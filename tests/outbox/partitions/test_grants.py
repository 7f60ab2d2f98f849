"""Rights of converted tables, of their sequences and of their partitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from outbox import clock
from outbox.models import Event
from outbox.partitions.ahead import keep_ahead
from outbox.partitions.catalogue import DELIVERY, EVENT, TABLES
from outbox.partitions.conversion import convert
from outbox.partitions.days import day_at, partition_name
from outbox.testing import Outbox
from tests.outbox.converted import days_later, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

_OWN = f"{EVENT}, {DELIVERY}, outbox_attempt, outbox_settlement"


@pytest.fixture
def role() -> Iterator[str]:
    """Yield the name of a role that owns nothing and has no right."""
    name = f"app_{uuid4().hex[:12]}"
    rows(f"CREATE ROLE {name}")
    yield name
    rows(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
    rows(f"DROP OWNED BY {name}")
    rows(f"DROP ROLE {name}")


@pytest.fixture(params=["App", "app@example.com."])
def acting_owner(plain: None, role: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Act as a role of such a name that owns all tables; `role` is another one."""
    name = f'"{request.param}{uuid4().hex[:12]}"'
    rows(f"CREATE ROLE {name}")
    rows(f"GRANT CREATE ON SCHEMA public TO {name}")
    for [table] in rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows(f'ALTER TABLE "{table}" OWNER TO {name}')
    rows(f"SET ROLE {name}")
    yield
    rows("RESET ROLE")
    rows(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
    rows(f"DROP OWNED BY {name}")
    rows(f"DROP ROLE {name}")


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    with transaction.atomic():
        rows(f"SET LOCAL ROLE {role}")
        yield
        rows("RESET ROLE")


def acl_of(*names: str) -> list[str | None]:
    found = dict(
        rows("SELECT relname, relacl::text FROM pg_class WHERE relname = ANY(%s)", list(names))
    )
    return [found[name] for name in names]


@pytest.mark.usefixtures("plain")
class TestARoleThatMayInsert:
    @pytest.mark.parametrize("grant", ["INSERT", "INSERT ({columns})"])
    def test_stores_events_after_the_conversion(self, role: str, grant: str):
        """An identity column needs no right on its sequence."""
        columns = ", ".join(str(one.column) for one in Event._meta.fields if one.name != "seq")
        rows(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        rows(f"GRANT {grant.format(columns=columns)} ON {EVENT} TO {role}")

        convert(using="default")

        outbox = Outbox()
        with acting_as(role):
            outbox.given("shops.Ordered", order_id="1")
        assert Event.objects.count() == 1

    def test_is_everybody_if_it_was_before(self, role: str):
        rows(f"GRANT SELECT, INSERT ON {EVENT} TO PUBLIC")

        convert(using="default")

        outbox = Outbox()
        with acting_as(role):
            outbox.given("shops.Ordered", order_id="1")
        assert Event.objects.count() == 1


@pytest.mark.usefixtures("plain")
class TestTheOwner:
    def test_keeps_its_rights_if_another_role_with_default_privileges_for_it_converts(
        self, role: str
    ):
        for table in _OWN.split(", "):
            rows(f"ALTER TABLE {table} OWNER TO {role}")
        rows(f"GRANT CREATE ON SCHEMA public TO {role}")
        rows(f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT ON TABLES TO {role}")
        rows(f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO {role}")

        convert(using="default")

        outbox = Outbox()
        with acting_as(role):
            assert outbox.given("shops.Ordered", order_id="1").seq
            assert Event.objects.count() == 1
            rows(f"UPDATE {DELIVERY} SET note = ''")

    @pytest.mark.usefixtures("acting_owner")
    def test_converts_and_creates_partitions_with_any_name(self, role: str):
        """Failed: a name with capitals was read in lower case, and "@" was a syntax error."""
        rows(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}")

        convert(using="default")
        with days_later(1):
            [day] = keep_ahead(using="default")

        assert role not in str(acl_of(EVENT, partition_name(EVENT, day)))


class TestANewPartition:
    @pytest.mark.usefixtures("plain")
    def test_has_the_rights_of_its_table(self, role: str):
        """A program such as pg_dump reads each partition by its name."""
        rows(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        rows(f"GRANT UPDATE (note) ON {DELIVERY} TO {role} WITH GRANT OPTION")

        convert(using="default")

        day = day_at(clock.now()) + timedelta(days=3)
        for table in TABLES:
            assert acl_of(table) == acl_of(partition_name(table, day))
        with acting_as(role):
            rows(f"SELECT count(*) FROM {partition_name(EVENT, day)}")
            rows(f"UPDATE {partition_name(DELIVERY, day)} SET note = ''")

    @pytest.mark.usefixtures("converted")
    def test_has_no_rights_by_default_privileges(self, role: str):
        rows(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}")

        with days_later(1):
            [day] = keep_ahead(using="default")

        assert role not in str(acl_of(partition_name(EVENT, day)))

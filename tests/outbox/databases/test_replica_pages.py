"""`OUTBOX["READ_FROM"]`: the monitor's pages read a replica, and show how old its rows are.

The second database stands for the replica. So each test knows which one a page has read.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.db import connections, transaction
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from outbox import DomainEvent, PermanentFailure, emit, operations, subscribe
from outbox.models import Delivery, Event, Heartbeat, Operation
from outbox.operations.dry_run import dry_run
from outbox.testing import Outbox
from tests.outbox.two_databases import BOTH, sync_both, unreachable

pytestmark = pytest.mark.django_db(transaction=True)

DELIVERIES = reverse("admin:outbox_delivery_changelist")


class ParcelMoved(DomainEvent, key="parcel_id"):
    """A parcel moved to another place."""

    parcel_id: UUID


@pytest.fixture(autouse=True)
def keys(shard: str, settings: Settings) -> dict[str, str]:
    """Make a dead delivery in each database; return the keys. The second one is the replica."""

    @subscribe("tests.ParcelMoved")
    def refuse(parcel_id: UUID) -> None:
        raise PermanentFailure("no room")

    sync_both()
    found = {}
    for using in BOTH:
        found[using] = str(uuid4())
        with transaction.atomic(using=using):
            emit(ParcelMoved(parcel_id=UUID(found[using])))
        Outbox(using=using).deliver_all(raise_errors=False)
    settings.OUTBOX = {**settings.OUTBOX, "DATABASES": [], "READ_FROM": shard}
    return found


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ann"))
    return client


class TestAPage:
    def test_reads_the_replica(self, staff: Client, keys: dict[str, str], shard: str):
        html = staff.get(DELIVERIES).content.decode()

        assert keys[shard] in html
        assert keys["default"] not in html

    def test_shows_how_old_its_rows_are_at_most(self, staff: Client, shard: str):
        seen = timezone.now() - timedelta(seconds=90)
        Heartbeat.objects.using(shard).create(kind="relay", name="r", started_at=seen, seen_at=seen)

        with time_machine.travel(seen + timedelta(seconds=90), tick=False):
            html = staff.get(DELIVERIES).content.decode()

        assert "Read from the replica shard_1. Its rows are at most 1 min 30 s old." in html

    def test_shows_that_a_replica_has_no_heartbeat(self, staff: Client):
        html = staff.get(DELIVERIES).content.decode()

        assert "Read from the replica shard_1, which has no heartbeat yet." in html

    def test_examines_the_primary(self, staff: Client, shard: str):
        """One health check updates a row, which a replica refuses."""
        with CaptureQueriesContext(connections[shard]) as queries:
            response = staff.get(reverse("admin:outbox_minute_health_checks"))

        assert response.status_code == 200
        assert [one["sql"] for one in queries if "outbox_" in one["sql"]] == []

    def test_acts_on_the_primary(self, staff: Client, shard: str):
        pk = Delivery.objects.using("default").get().pk
        data = {"action": "retry", "_selected_action": [pk], "reason": "a test"}

        staff.post(DELIVERIES, data)

        assert Delivery.objects.using("default").get().state == "pending"
        assert Delivery.objects.using(shard).get().state == "dead"

    @pytest.mark.parametrize("page", ["change", "part"])
    def test_of_an_operation_that_the_replica_does_not_have_yet(self, staff: Client, page: str):
        """Failed: the page to which an action redirects said that the operation does not exist."""
        choice = operations.Choice(handler="tests.refuse")
        operations.retry(choice, by="ann", reason="no paper", using="default")
        pk = Operation.objects.using("default").get().pk

        response = staff.get(reverse(f"admin:outbox_operation_{page}", args=[pk]))

        assert response.status_code == 200
        assert "Read from the replica" not in response.content.decode()

    @pytest.mark.parametrize("model", [Event, Delivery])
    def test_of_a_row_that_the_replica_does_not_have_yet(
        self, staff: Client, keys: dict[str, str], shard: str, model: type[Model]
    ):
        Delivery.objects.using(shard).all().delete()
        Event.objects.using(shard).all().delete()
        name = f"admin:outbox_{model._meta.model_name}_change"
        row = model._default_manager.using("default").get()

        response = staff.get(reverse(name, args=[row.pk]))

        assert response.status_code == 200
        assert keys["default"] in response.content.decode()

    def test_of_a_row_that_does_not_exist_leads_to_the_index(self, staff: Client):
        assert staff.get(reverse("admin:outbox_delivery_change", args=[987])).status_code == 302

    def test_reads_the_primary_without_the_setting(
        self, staff: Client, keys: dict[str, str], settings: Settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "READ_FROM": ""}

        html = staff.get(DELIVERIES).content.decode()

        assert keys["default"] in html
        assert "replica" not in html

    def test_reads_the_replica_of_its_own_database(
        self, staff: Client, keys: dict[str, str], settings: Settings, shard: str
    ):
        replicas = {"shard_1": "default"}
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": BOTH, "READ_FROM": replicas}

        html = staff.get(DELIVERIES, {"database": shard}).content.decode()

        assert keys["default"] in html
        assert "Read from the replica default" in html


class TestTheSetting:
    @pytest.mark.parametrize("given", ["nowhere", {"default": "nowhere"}, {"nowhere": "shard_1"}])
    def test_names_an_unknown_database(self, settings: Settings, given: object):
        settings.OUTBOX = {**settings.OUTBOX, "READ_FROM": given}

        [error] = [one for one in run_checks() if one.id == "outbox.E095"]

        assert "names nowhere" in error.msg

    def test_names_a_database_that_is_written(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "READ_FROM": "default"}

        [error] = [one for one in run_checks() if one.id == "outbox.E095"]

        assert "is written, too" in error.msg

    def test_is_no_alias(self, settings: Settings):
        settings.OUTBOX = {**settings.OUTBOX, "READ_FROM": 7}

        assert [one.id for one in run_checks() if "READ_FROM" in one.msg] == ["outbox.E012"]


class TestADryRun:
    def test_needs_no_replica(self, shard: str):
        """Failed: it opened a transaction of each database."""
        connections[shard].close()

        with unreachable(shard):
            found = dry_run(Delivery.objects.get().pk)

        assert found.error == "PermanentFailure: no room"

"""Explanations of a delivery that is dead because a later event of its key ran first."""

from __future__ import annotations

import json
import logging
import shlex
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox import operations, subscribe
from outbox.admin.advice import advice
from outbox.deliveries import withdrawal
from outbox.deliveries.transient_errors import DatabaseAccess
from outbox.formatting import format_time
from outbox.models import Attempt, Delivery
from outbox.monitor.diagnosis import why
from outbox.monitor.groups import groups
from outbox.monitor.status import status
from outbox.subscriptions import find
from outbox.testing import Outbox
from outbox.worker.start import start
from tests.outbox.command import outbox_command
from tests.outbox.confirmations import confirm
from tests.outbox.drive import run_pass, states
from tests.outbox.outages import expire_leases

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_registry", "no_nudge"),
]

HANDLER = "tests.count"
DEAD = reverse("admin:outbox_delivery_dead")
OVERVIEW = reverse("admin:outbox_minute_changelist")
CAUSE = "a later event of its key ran before it"
TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture
def overtaken(own_registry: None, caplog: pytest.LogCaptureFixture) -> Delivery:
    """Event 1 counts as dead while it runs, event 2 is handled, and the worker of 1 is alive."""

    @subscribe("tests.Counted", attempts=1, ordered=True, on_dead="pass", name=HANDLER)
    def count() -> None: ...

    outbox, key = Outbox(), uuid4()
    for _ in range(2):
        outbox.given("tests.Counted", order_id=key)
    [message] = run_pass()
    handler = find(HANDLER)
    assert handler is not None
    [row] = start(handler, message.pairs, worker="w1", access=DatabaseAccess("default"))
    expire_leases()
    outbox.deliver_all()
    assert row.started_at is not None
    with caplog.at_level(logging.WARNING, logger="outbox.settlement"):
        withdrawal.withdraw_deaths(
            [row.pk], worker="w1", started_at=row.started_at, using="default"
        )
    return the_first()


@pytest.fixture
def died(overtaken: Delivery) -> Delivery:
    """Another delivery of the handler, whose worker died."""
    Outbox().given("tests.Counted", order_id=uuid4())
    run_pass()
    row = Delivery.objects.latest("pk")
    now = timezone.now()
    mine = Delivery.objects.filter(pk=row.pk)
    mine.update(state="dead", attempts=1, order_key=None, due_at=now)
    Attempt.objects.create(delivery=row, number=1, started_at=now, ended_at=now, outcome="died")
    return row


def the_first() -> Delivery:
    return Delivery.objects.select_related("subscription").earliest("pk")


def later() -> Delivery:
    return Delivery.objects.order_by("pk")[1]


class TestWhy:
    def test_names_the_later_event_that_ran_and_the_effect_of_a_retry(self, overtaken: Delivery):
        """Failed: "Dead after 0 attempts ...; when the cause is gone, try it again"."""
        ended = format_time(overtaken.failures.get().ended_at)

        assert why(overtaken) == (
            f"Dead without a used attempt: its worker lost the database at {ended} and is alive. "
            f"Meanwhile delivery {later().pk}, of a later event of its key, ran, so a retry runs "
            "this delivery out of order. If the handler can run out of order: `manage.py outbox "
            f"retry {overtaken.pk}`. Otherwise: `manage.py outbox discard {overtaken.pk}`."
        )

    def test_explains_it_although_the_later_event_is_deleted(self, overtaken: Delivery):
        later().delete()

        assert "Meanwhile a later event of its key ran, so" in why(overtaken)

    def test_explains_a_crash_of_a_worker_as_before(self, died: Delivery):
        died = Delivery.objects.select_related("subscription").get(pk=died.pk)

        assert why(died).startswith("Dead after 1 attempt, at")


class TestTheLog:
    def test_records_that_the_delivery_stays_dead(
        self, overtaken: Delivery, caplog: pytest.LogCaptureFixture
    ):
        """Failed: it said only that no attempt is used up."""
        records = caplog.get_records("setup")
        [said] = [one.getMessage() for one in records if one.name == "outbox.settlement"]

        assert said == (
            f"Delivery {overtaken.pk}: its worker is alive, and no attempt is used up. A later "
            "event of its key ran before it, so it stays dead: `manage.py outbox why "
            f"{overtaken.pk}`."
        )


class TestTheGroups:
    def test_separate_it_from_crashes_of_workers(self, overtaken: Delivery, died: Delivery):
        """Failed: one group, "the worker died"."""
        found = {group.is_overtaken: (group.number, group.example) for group in groups()}

        assert found == {True: (1, overtaken.pk), False: (1, died.pk)}

    def test_name_commands_that_change_only_the_group(self, overtaken: Delivery, died: Delivery):
        retry = {one["is_overtaken"]: one["retry"] for one in json.loads(self.said("--json"))}

        outbox_command(*shlex.split(retry[False])[2:])
        assert states() == ["dead", "done", "pending"]
        outbox_command(*shlex.split(retry[True])[2:])
        assert states() == ["pending", "done", "pending"]

    def test_explain_the_effect_of_a_retry(self, overtaken: Delivery):
        said = self.said()

        assert said.startswith(f"1 delivery of {HANDLER}: {CAUSE}\n")
        assert "out of order" in said
        assert f"manage.py outbox why {overtaken.pk}" in said
        assert "manage.py outbox discard" in said

    def said(self, *arguments: str) -> str:
        return outbox_command("groups", *arguments)


class TestTheAdmin:
    def test_names_the_cause_on_the_page_of_dead_letters(
        self, overtaken: Delivery, died: Delivery, admin_client: Client
    ):
        page = admin_client.get(DEAD).content.decode()

        assert page.count(f"{HANDLER}: {CAUSE}</h2>") == 1
        assert page.count(f"{HANDLER}: the worker died</h2>") == 1
        assert "out of order" in page

    @pytest.mark.parametrize(
        ("is_overtaken", "left"),
        [(True, ["discarded", "done", "dead"]), (False, ["dead", "done", "discarded"])],
    )
    def test_acts_on_only_one_of_the_two_groups(
        self,
        overtaken: Delivery,
        died: Delivery,
        admin_client: Client,
        is_overtaken: bool,
        left: list[str],
    ):
        form = {"group": "1", "handler": HANDLER, "exception": "", "place": "", "rate": "100"}
        form |= {"action": "discard"}
        form |= {"overtaken": "1"} if is_overtaken else {}
        url = reverse("admin:outbox_delivery_dead_act")

        asked = admin_client.post(url, {**form, "reason": ""}).content.decode()
        confirm(admin_client, url, form, reason="too late", rate="100")

        assert ('name="overtaken"' in asked) is is_overtaken
        assert states() == left

    def test_names_the_cause_on_the_overview(self, overtaken: Delivery, admin_client: Client):
        page = admin_client.get(OVERVIEW).content.decode()

        assert f"{TIMES} {CAUSE}" in page
        assert "the worker died" not in page

    def test_advises_to_discard_or_retry(self, overtaken: Delivery):
        """Failed: the advice named the death of a worker, and asked for a retry."""
        found = advice(status(), [], groups(), has_failures=True)

        assert found.text == (
            f"1 delivery of {HANDLER} was overtaken by a later event of its key. Discard it, "
            "or retry it out of order."
        )


class TestASelection:
    def test_of_overtaken_deliveries_is_stored_and_read_again(self):
        meant = operations.Choice(handler=HANDLER, overtaken=True)

        assert operations.Choice.from_json(meant.as_json()) == meant

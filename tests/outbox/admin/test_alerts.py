"""The list of alerts: open and resolved ones, what was sent, and what a failure said."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test.utils import override_script_prefix
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from outbox.admin.alerts import TRIGGER_LABELS
from outbox.alerts.configuration import TRIGGERS
from outbox.models import Alert, AlertNotice
from tests.outbox.parcels import client_with, listed, text_of

pytestmark = pytest.mark.django_db

ALERTS = reverse("admin:outbox_alert_changelist")
OPERATIONS = reverse("admin:outbox_operation_changelist")
SECRET = "ValueError: the paper is torn"


def alert(problem: str, *, is_resolved: bool = False) -> Alert:
    now = timezone.now()
    return Alert.objects.create(
        problem=problem,
        trigger="dead",
        text=f"parcels.label has 1 dead delivery: {SECRET}.",
        path="/admin/outbox/delivery/dead/",
        opened_at=now - timedelta(minutes=5),
        seen_at=now,
        resolved_at=now if is_resolved else None,
    )


class TestTheList:
    def test_has_the_newest_alert_first(self):
        old, new = alert("dead:a", is_resolved=True), alert("dead:b")

        assert listed(client_with("view_alert"), ALERTS) == [new.pk, old.pk]

    def test_can_be_limited_to_open_ones(self):
        alert("dead:a", is_resolved=True)
        new = alert("dead:b")

        assert listed(client_with("view_alert"), f"{ALERTS}?state=open") == [new.pk]

    def test_can_be_limited_to_one_trigger(self):
        new = alert("dead:b")

        client = client_with("view_alert")

        assert listed(client, f"{ALERTS}?trigger=dead") == [new.pk]
        assert listed(client, f"{ALERTS}?trigger=silent") == []

    def test_names_the_triggers_in_the_language_of_the_page(self):
        """Failed: column and filter had the keys of the setting, in English."""
        alert("dead:a")
        client = client_with("view_alert")

        text = client.get(ALERTS, headers={"accept-language": "ja"}).content.decode()

        assert "デッド" in text
        assert "失敗中" in text
        assert ">dead<" not in text

    def test_has_a_label_for_each_trigger(self):
        assert set(TRIGGER_LABELS) == TRIGGERS

    def test_names_the_outcome_of_each_channel(self):
        row = alert("dead:a")
        AlertNotice.objects.create(alert=row, channel="chat", sent_at=timezone.now())
        AlertNotice.objects.create(alert=row, channel="mail", error="no answer")

        text = text_of(client_with("view_alert"), ALERTS)

        assert "chat: sent at " in text
        assert "mail: not sent (no answer)" in text

    def test_links_the_page_about_the_problem(self):
        """Failed: under a script prefix, the link led to a page that does not exist."""
        row = alert("dead:a")
        client = client_with("view_alert", "view_delivery")

        with override_script_prefix("/shop/"):
            page = text_of(client, f"{ALERTS}{row.pk}/change/")

        assert 'href="/shop/admin/outbox/delivery/dead/"' in page

    def test_quotes_no_failure_without_the_permission_to_view_deliveries(self):
        row = alert("dead:parcels.label:ValueError")
        page = reverse("admin:outbox_alert_change", args=[row.pk])
        without = client_with("view_alert")
        with_it = client_with("view_alert", "view_delivery")

        for url in (ALERTS, page):
            assert SECRET not in text_of(without, url)
            assert SECRET in text_of(with_it, url)

    def test_reads_the_same_number_of_rows_for_many_alerts(
        self, django_assert_max_num_queries: DjangoAssertNumQueries
    ):
        for number in range(20):
            row = alert(f"dead:{number}")
            AlertNotice.objects.create(alert=row, channel="mail")
        client = client_with("view_alert")

        with django_assert_max_num_queries(10):
            text_of(client, ALERTS)


class TestTheNavigation:
    @pytest.mark.parametrize("is_on", [True, False])
    def test_has_the_list_where_alerts_are_on(self, settings: Settings, is_on: bool):
        alerts = {"CHANNELS": {"mail": {"EMAIL": ["a@example.com"]}}} if is_on else {}
        settings.OUTBOX = {"ALERTS": alerts}

        text = text_of(client_with("view_alert", "view_operation"), OPERATIONS)

        assert (f'href="{ALERTS}"' in text.partition("outbox-navigation")[2]) == is_on

"""Actions in the admin: retry, pause, discard, replay."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from outbox import operations
from outbox.admin import DeliveryAdmin
from outbox.models import Delivery, Operation, Subscription
from outbox.testing import Outbox
from tests.outbox.confirmations import confirm, confirmation, hidden_in
from tests.outbox.parcels import (
    DELIVERIES,
    SUBSCRIPTIONS,
    client_with,
    dead_one,
    packed,
    page_of,
    subscribe_to_parcels,
    text_of,
)


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    return subscribe_to_parcels()


class TestRetry:
    def test_makes_a_dead_delivery_due_and_is_logged(self, outbox, admin_client, admin_user):
        packed(outbox)
        delivery = dead_one()

        response = admin_client.post(
            DELIVERIES, {"action": "retry", "_selected_action": [delivery.pk]}, follow=True
        )

        assert "1 delivery is due now." in response.content.decode()
        delivery.refresh_from_db()
        assert (delivery.state, delivery.due_at <= timezone.now()) == ("pending", True)
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id) == (admin_user, str(delivery.pk))
        assert entry.change_message.startswith("Retry now (operation ")

    def test_has_a_button_on_the_page_that_leads_back_to_it(self, outbox, admin_client):
        packed(outbox)
        delivery = dead_one()
        form = {"action": "retry", "_selected_action": [delivery.pk], "from_page": "1"}

        before = text_of(admin_client, page_of(delivery))
        response = admin_client.post(DELIVERIES, form)
        after = text_of(admin_client, page_of(delivery))

        assert response["Location"] == page_of(delivery)
        assert "Retry now" in before
        assert "Retry now</button>" not in after

    def test_skips_a_done_delivery_with_a_warning(self, outbox, admin_client):
        packed(outbox)
        done = Delivery.objects.get(state="done")

        response = admin_client.post(
            DELIVERIES, {"action": "retry", "_selected_action": [done.pk]}, follow=True
        )

        assert "1 delivery was skipped" in response.content.decode()
        done.refresh_from_db()
        assert done.state == "done"
        assert not LogEntry.objects.exists()

    def test_applies_to_all_matches_beyond_the_page(self, outbox, admin_client, monkeypatch):
        monkeypatch.setattr(DeliveryAdmin, "list_per_page", 1)
        for _ in range(3):
            packed(outbox)
        first = Delivery.objects.filter(state="dead").latest("id")
        form = {"action": "retry", "_selected_action": [first.pk], "select_across": "1"}
        reason = {"reason": "the scales are mended"}

        text = text_of(admin_client, f"{DELIVERIES}?state=dead")
        asked = admin_client.post(f"{DELIVERIES}?state=dead", form).content.decode()
        admin_client.post(f"{DELIVERIES}?state=dead", form | reason)

        assert "Select all that match" in text
        assert "tests.weigh_parcel, dead: 3" in asked
        assert '<input type="hidden" name="select_across" value="1">' in asked
        assert not Delivery.objects.filter(state="dead").exists()
        assert LogEntry.objects.count() == 3

    def test_requires_a_reason_if_all_but_one_have_left_the_filter(self, outbox, admin_client):
        """Seen to fail where one alone needs none: a reason of blanks was looked up."""
        packed(outbox)
        gone = dead_one()
        packed(outbox)
        left = Delivery.objects.filter(state="dead").latest("id")
        form = {"action": "retry", "_selected_action": [gone.pk, left.pk], "reason": " "}
        Delivery.objects.filter(pk=gone.pk).update(state="done")

        asked = admin_client.post(f"{DELIVERIES}?state=dead", form).content.decode()

        assert "This field is required" in asked
        assert dead_one() == left

    def test_is_hidden_without_the_permission(self, outbox):
        packed(outbox)
        delivery = dead_one()
        viewer = client_with("view_event", "view_delivery", "view_subscription")

        texts = [text_of(viewer, url) for url in (DELIVERIES, page_of(delivery))]
        viewer.post(DELIVERIES, {"action": "retry", "_selected_action": [delivery.pk]})

        assert not [text for text in texts if "Retry now" in text]
        assert dead_one() == delivery

    def test_is_allowed_with_the_permission(self, outbox):
        packed(outbox)
        operator = client_with("view_delivery", "retry_delivery")

        operator.post(DELIVERIES, {"action": "retry", "_selected_action": [dead_one().pk]})

        assert not Delivery.objects.filter(state="dead").exists()


class TestPausing:
    def subscription(self) -> Subscription:
        return Subscription.objects.get(handler="tests.weigh_parcel")

    def test_requires_a_reason(self, outbox, admin_client):
        form = {"action": "pause", "_selected_action": [self.subscription().pk]}

        asked = admin_client.post(SUBSCRIPTIONS, form).content.decode()
        again = admin_client.post(SUBSCRIPTIONS, {**form, "reason": " "}).content.decode()

        assert "Stored with the action." in asked
        assert "This field is required." in again
        assert self.subscription().paused_at is None

    def test_pauses_with_the_reason_and_resumes_and_is_logged(
        self, outbox, admin_client, admin_user
    ):
        form = {"_selected_action": [self.subscription().pk]}

        admin_client.post(SUBSCRIPTIONS, {**form, "action": "pause", "reason": "Broken scales"})
        paused, text = self.subscription(), text_of(admin_client, SUBSCRIPTIONS)
        admin_client.post(SUBSCRIPTIONS, {**form, "action": "resume"})

        assert paused.paused_by == f"user:{admin_user.pk}"
        assert paused.pause_reason == "Broken scales"
        assert "Broken scales" in text
        assert self.subscription().paused_at is None
        said = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
        assert list(said) == ["Paused: Broken scales", "Resumed."]

    def test_refuses_an_ended_handler(self, outbox, admin_client):
        """Failed: it said that the handler was paused."""
        operations.end("tests.weigh_parcel", by="ann", reason="No scales")
        form = {"action": "pause", "_selected_action": [self.subscription().pk], "reason": "No"}

        said = admin_client.post(SUBSCRIPTIONS, form, follow=True).content.decode()

        assert "weigh_parcel was not paused: the subscription of" in said
        assert "manage.py outbox resume tests.weigh_parcel" in said
        assert "is paused. Its deliveries wait" not in said
        assert self.subscription().paused_at is None
        assert not LogEntry.objects.exists()

    def test_is_hidden_without_the_permission(self, outbox):
        viewer = client_with("view_subscription", "retry_delivery")
        form = {"action": "pause", "_selected_action": [self.subscription().pk], "reason": "No"}

        text = text_of(viewer, SUBSCRIPTIONS)
        viewer.post(SUBSCRIPTIONS, form)

        assert "Pause the handler" not in text
        assert self.subscription().paused_at is None


class TestDiscardingAndReplaying:
    @pytest.mark.parametrize(("action", "state"), [("discard", "dead"), ("replay", "done")])
    def test_needs_a_reason_and_is_recorded(self, outbox, admin_client, admin_user, action, state):
        packed(outbox)
        row = Delivery.objects.get(state=state)
        form = {"action": action, "_selected_action": [row.pk]}

        asked = admin_client.post(DELIVERIES, form).content.decode()
        before = Delivery.objects.get(pk=row.pk).state
        admin_client.post(DELIVERIES, {**hidden_in(asked), "reason": "the scales were broken"})

        assert f"{row.subscription.handler}, {state}: 1" in asked
        assert before == state
        assert Delivery.objects.get(pk=row.pk).state != state
        done = Operation.objects.get()
        assert (done.action, done.reason) == (action, "the scales were broken")
        assert (done.by, done.touched) == (f"user:{admin_user.pk}", 1)
        assert "the scales were broken" in text_of(admin_client, page_of(done))
        assert action in text_of(admin_client, reverse("admin:outbox_operation_changelist"))

    @pytest.mark.parametrize(("action", "state"), [("discard", "dead"), ("replay", "done")])
    def test_requires_its_own_permission(self, outbox, admin_client, action, state):
        packed(outbox)
        row = Delivery.objects.get(state=state)
        others = {"retry_delivery", "discard_delivery", "replay_delivery"} - {f"{action}_delivery"}
        client = client_with("view_delivery", *others)
        form = {"action": action, "_selected_action": [row.pk]}
        form = confirmation(admin_client, DELIVERIES, form)

        text = text_of(client, page_of(row))
        client.post(DELIVERIES, {**form, "reason": "none of my business"})

        assert f'value="{action}"' not in text
        assert Delivery.objects.get(pk=row.pk).state == state
        assert not Operation.objects.exists()

    def test_shows_an_error_if_the_same_replay_is_not_finished(self, outbox, admin_client):
        packed(outbox)
        row = Delivery.objects.get(state="done")
        now = timezone.now()
        Operation.objects.create(
            action="replay", choice={"ids": [row.pk]}, by="cli:ann", started_at=now, seen_at=now
        )
        form = {"action": "replay", "_selected_action": [row.pk]}

        said = confirm(admin_client, DELIVERIES, form, reason="once more").content.decode()

        assert "The same replay is not finished" in said
        assert Delivery.objects.get(pk=row.pk).state == "done"

    @pytest.mark.parametrize("reason", [{}, {"reason": "the scales were broken"}])
    def test_of_deliveries_that_left_the_filter_changes_nothing(self, outbox, admin_client, reason):
        """Seen to fail where no ids stand for all."""
        packed(outbox)
        gone = dead_one()
        packed(outbox)
        left = Delivery.objects.filter(state="dead").latest("id")
        form = {"action": "discard", "_selected_action": [gone.pk]}
        form = confirmation(admin_client, f"{DELIVERIES}?state=dead", form) | reason
        Delivery.objects.filter(pk=gone.pk).update(state="done")

        said = admin_client.post(f"{DELIVERIES}?state=dead", form, follow=True).content.decode()

        assert "No selected delivery is in this list any more." in said
        assert dead_one() == left

    def test_of_too_many_deliveries_refers_to_the_command(self, outbox, admin_client, monkeypatch):
        monkeypatch.setattr("outbox.admin.actions.MAX_PER_REQUEST", 1)
        packed(outbox)
        packed(outbox)
        rows = list(Delivery.objects.filter(state="dead").values_list("pk", flat=True))
        form = {"action": "discard", "_selected_action": rows, "reason": "all of them"}

        said = admin_client.post(DELIVERIES, form, follow=True).content.decode()

        assert "More than 1 deliveries are selected. Use `manage.py outbox discard`" in said
        assert Delivery.objects.filter(state="dead").count() == 2

    def test_shows_the_command_of_its_warning_as_code(self, outbox, admin_client):
        packed(outbox)
        form = {"action": "replay", "_selected_action": [Delivery.objects.get(state="done").pk]}

        asked = admin_client.post(DELIVERIES, form).content.decode()

        assert "<code>manage.py outbox replay ID --dry-run --show-writes</code>" in asked


class TestAConfirmation:
    @pytest.mark.parametrize("page", [DELIVERIES, f"{DELIVERIES}?state=dead"])
    def test_discards_no_delivery_that_was_retried_meanwhile(self, outbox, admin_client, page: str):
        """Failed in the list of dead ones, which it has left: it was not counted as skipped."""
        packed(outbox)
        first = dead_one()
        packed(outbox)
        form = {"action": "discard", "_selected_action": dead_ids()}
        asked = confirmation(admin_client, page, form)
        operations.retry(operations.Choice(ids=(first.pk,)), by="cli:bob", rate=None)

        said = admin_client.post(page, {**asked, "reason": "no scales"}, follow=True)

        text = said.content.decode()
        assert "1 delivery was discarded." in text
        assert "1 delivery was skipped: its state does not allow this action, or it has" in text
        first.refresh_from_db()
        assert first.state == "pending"

    def test_tells_a_retried_delivery_from_a_pending_one_that_it_has_shown(
        self, outbox, admin_client
    ):
        packed(outbox)
        waiting = dead_one()
        packed(outbox)
        Delivery.objects.filter(pk=waiting.pk).update(state="pending")
        retried = dead_one()
        form = {"action": "discard", "_selected_action": [waiting.pk, retried.pk]}
        asked = confirmation(admin_client, DELIVERIES, form)
        operations.retry(operations.Choice(ids=(retried.pk,)), by="cli:bob", rate=None)

        admin_client.post(DELIVERIES, {**asked, "reason": "no scales"})

        states = Delivery.objects.in_bulk([waiting.pk, retried.pk])
        assert states[waiting.pk].state == "discarded"
        assert states[retried.pk].state == "pending"

    def test_discards_no_delivery_that_was_retried_and_died_again(self, outbox, admin_client):
        packed(outbox)
        row = dead_one()
        asked = confirmation(
            admin_client, DELIVERIES, {"action": "discard", "_selected_action": [row.pk]}
        )
        operations.retry(operations.Choice(ids=(row.pk,)), by="cli:bob", rate=None)
        outbox.deliver_all(raise_errors=False)

        admin_client.post(DELIVERIES, {**asked, "reason": "no scales"})

        assert dead_one() == row
        assert [one.action for one in Operation.objects.all()] == ["retry"]

    def test_replays_once(self, outbox, admin_client):
        """A double click sends it twice, and two users may have it open."""
        packed(outbox)
        row = Delivery.objects.get(state="done")
        asked = confirmation(
            admin_client, DELIVERIES, {"action": "replay", "_selected_action": [row.pk]}
        )
        form = {**asked, "reason": "a label was lost"}

        first = admin_client.post(DELIVERIES, form, follow=True).content.decode()
        outbox.deliver_all(raise_errors=False)
        second = admin_client.post(DELIVERIES, form, follow=True).content.decode()

        assert "1 delivery is due now." in first
        assert "1 delivery was skipped" in second
        row.refresh_from_db()
        assert row.state == "done"
        assert row.failures.filter(outcome="replayed").count() == 1
        assert Operation.objects.get().touched == 1

    def test_of_all_matches_leaves_out_those_that_match_later(self, outbox, admin_client):
        url = f"{DELIVERIES}?state=dead"
        packed(outbox)
        form = {"action": "discard", "_selected_action": dead_ids(), "select_across": "1"}
        asked = confirmation(admin_client, url, form)
        packed(outbox)

        admin_client.post(url, {**asked, "reason": "no scales"})

        assert Delivery.objects.filter(state="discarded").count() == 1
        assert Delivery.objects.filter(state="dead").count() == 1

    @pytest.mark.parametrize("action", ["discard", "replay"])
    @pytest.mark.parametrize("field", [None, "", "x", "a:b:c", "of another action"])
    def test_without_its_valid_field_is_shown_again(self, outbox, admin_client, action, field):
        packed(outbox)
        rows = {one.state: one.pk for one in Delivery.objects.all()}
        other = {"discard": "replay", "replay": "discard"}[action]
        form = {"_selected_action": list(rows.values())}
        if field == "of another action":
            field = confirmation(admin_client, DELIVERIES, {**form, "action": other})["shown"][0]
        sent = {**form, "action": action, "reason": "no <scales>"}
        sent |= {} if field is None else {"shown": field}

        answer = admin_client.post(DELIVERIES, sent)

        text = answer.content.decode()
        assert "This confirmation is no longer valid." in text
        assert "no &lt;scales&gt;</textarea>" in text
        assert not Operation.objects.exists()
        admin_client.post(DELIVERIES, {**hidden_in(text), "reason": "no scales"})
        assert Operation.objects.get().touched == 1


def dead_ids() -> list[int]:
    return list(Delivery.objects.filter(state="dead").values_list("pk", flat=True))

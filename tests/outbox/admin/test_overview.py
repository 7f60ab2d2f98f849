"""The overview: its numbers, the health of the parts, and the next step."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from outbox import PermanentFailure, operations, subscribe
from outbox.admin import overview
from outbox.models import Delivery, Event, Heartbeat, Minute, Subscription
from outbox.monitor.health import health_of_parts
from outbox.sources.state import note_failure
from outbox.testing import Outbox
from tests.outbox.parcels import DELIVERIES, EVENTS, client_with
from tests.outbox.sources.messages import configure

OVERVIEW = reverse("admin:outbox_minute_changelist")
PART = reverse("admin:outbox_minute_part")
DEAD = reverse("admin:outbox_delivery_dead")
HEALTH_CHECKS = reverse("admin:outbox_minute_health_checks")

Kind = Heartbeat.Kind


@pytest.fixture
def outbox(own_registry: None) -> Outbox:
    """One handler does its work, the other refuses it for good."""

    @subscribe("tests.Sent", queue="labels")
    def label_parcel() -> None: ...

    @subscribe("tests.Sent", queue="scales")
    def weigh_parcel() -> None:
        raise PermanentFailure("The scales are broken")

    return Outbox()


@pytest.fixture
def alive(outbox: Outbox) -> None:
    """Every part of the system has just given a sign of life."""
    for kind in (Kind.RELAY, Kind.BEAT, Kind.BROKER):
        sign(kind)
    sign(Kind.WORKER, queues=["outbox", "labels", "scales"])


def sign(kind: str, *, ago: timedelta = timedelta(0), queues: list[str] | None = None) -> None:
    now = timezone.now()
    Heartbeat.objects.update_or_create(
        kind=kind,
        name="beat" if kind == Kind.BEAT else "one",
        defaults={"queues": queues or [], "started_at": now - ago, "seen_at": now - ago},
    )


def refuse(queue: str) -> None:
    """Store that RabbitMQ takes no message for a queue from a process that runs."""
    now = timezone.now()
    one = {"cause": "no node leads it", "since": now.isoformat(), "latest": now.isoformat()}
    Heartbeat.objects.create(
        kind=Kind.SENDER, name="host.1/1", refused={queue: one}, started_at=now, seen_at=now
    )


def emit_and_deliver(outbox: Outbox, number: int = 1) -> None:
    for _ in range(number):
        outbox.given("tests.Sent", key=str(uuid4()))
    outbox.deliver_all(raise_errors=False)


def let_wait(*, queue: str) -> None:
    """Let the deliveries of a queue have been due for two minutes."""
    due = timezone.now() - timedelta(minutes=2)
    Delivery.objects.filter(subscription__queue=queue).update(state="pending", due_at=due)


def text_of(client: Client, url: str = OVERVIEW) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def advice(client: Client) -> str:
    text = text_of(client)
    start = text.index("Next step")
    return text[start : text.index("</p>", start)]


class TestTiles:
    def test_count_owed_deliveries_with_links(self, outbox, admin_client):
        emit_and_deliver(outbox, 3)
        Delivery.objects.filter(state="done").update(
            state="pending", attempts=2, due_at=timezone.now() + timedelta(hours=1)
        )
        for row in Delivery.objects.filter(state="pending"):
            row.failures.create(
                number=2, started_at=timezone.now(), ended_at=timezone.now(), outcome="failed",
                exception="KeyError", place="labels:7 label_parcel",
            )  # fmt: skip

        tiles = {tile.name: tile for tile in admin_client.get(OVERVIEW).context["overview"].tiles}

        shown = {name: tiles[name].value for name in ("pending", "failing", "dead")}
        assert shown == {"pending": "3", "failing": "3", "dead": "3"}
        (failing,) = admin_client.get(tiles["failing"].url).context["failing"]
        assert failing.number == 3
        assert tiles["dead"].url == DEAD

    def test_show_throughput_and_lag(self, outbox, admin_client):
        # At the end of a minute the rate is that of almost six minutes.
        with time_machine.travel(timezone.now().replace(second=0, microsecond=0), tick=False):
            Minute.objects.create(minute=timezone.now(), events=60, done=100, lag_3=100)
            text = text_of(admin_client)

        assert "0.2</span>" in text  # 60 in five minutes
        assert "750 ms</span>" in text  # half way from 0.5 s to 1 s

    def test_show_a_lag_beyond_the_histogram_as_such(self, outbox, admin_client):
        """Failed: after a backlog of ten hours, both were "2 h"."""
        Minute.objects.create(minute=timezone.now(), events=60, done=100, lag_11=100)

        tiles = {tile.name: tile for tile in admin_client.get(OVERVIEW).context["overview"].tiles}

        assert tiles["95th percentile to done"].value == "over 2 h"

    def test_show_the_age_of_the_oldest_owed_event(self, outbox, admin_client):
        emit_and_deliver(outbox)
        Event.objects.update(emitted_at=timezone.now() - timedelta(hours=2, minutes=5))

        assert "2 h 5 min</span>" in text_of(admin_client)


class TestLinks:
    @pytest.fixture
    def troubles(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two groups that fail and two that are dead; one of each is shown."""
        monkeypatch.setattr(overview, "_GROUPS_SHOWN", 1)
        emit_and_deliver(outbox, 2)
        now = timezone.now()
        for number, row in enumerate(Delivery.objects.all()):
            row.failures.all().delete()
            row.failures.create(
                number=1, started_at=now, ended_at=now, outcome="failed", exception=f"E{number}"
            )
        Delivery.objects.filter(state="done").update(state="pending", attempts=1)

    @pytest.mark.usefixtures("troubles")
    def test_lead_only_to_pages_that_the_user_may_view(self):
        """Failed: every tile and "Retry or pause" answered 403."""
        found = self.links_of(client_with("view_minute"))

        assert set(found.values()) == {200}

    @pytest.mark.usefixtures("troubles")
    def test_lead_to_all_pages_with_their_permissions(self, admin_client: Client):
        found = self.links_of(admin_client)

        assert set(found.values()) == {200}
        assert {DEAD, f"{DELIVERIES}?state=pending", f"{EVENTS}?state=owed"} <= set(found)

    @pytest.mark.usefixtures("alive")
    def test_of_the_next_step_lead_only_there(self, outbox: Outbox, admin_client: Client):
        emit_and_deliver(outbox)

        hidden = advice(client_with("view_minute"))

        assert DEAD in advice(admin_client)
        assert "Fix the cause, then retry." in hidden
        assert "href" not in hidden

    def links_of(self, client: Client) -> dict[str, int]:
        """Return the status of each page of the outbox that the overview links to."""
        base = reverse("admin:app_list", args=["outbox"])
        found = [unescape(one) for one in re.findall(r'href="([^"#]+)"', text_of(client))]
        return {url: client.get(url).status_code for url in found if url.startswith(base)}


class TestHealth:
    def by_name(self) -> dict[str, bool]:
        return {part.name: part.is_on for part in health_of_parts()}

    def test_is_on_with_a_recent_heartbeat(self, alive):
        assert set(self.by_name().values()) == {True}
        assert set(self.by_name()) >= {"relay", "beat", "broker", "database", "queue scales"}

    @pytest.mark.parametrize("kind", ["relay", "beat", "broker"])
    def test_is_off_without_a_recent_heartbeat(self, alive, kind):
        with time_machine.travel(timezone.now(), tick=False):
            sign(kind, ago=timedelta(minutes=4))

            assert [name for name, is_on in self.by_name().items() if not is_on] == [kind]
            assert "silent for 4 min" in {part.text for part in health_of_parts()}

    def test_is_off_for_a_queue_without_worker_for_which_a_delivery_waits(self, outbox, alive):
        emit_and_deliver(outbox)
        let_wait(queue="scales")
        sign(Kind.WORKER, queues=["outbox", "labels"])

        assert [name for name, is_on in self.by_name().items() if not is_on] == ["queue scales"]


class TestTheNextStep:
    def test_is_none_if_all_deliveries_are_done(self, alive, admin_client):
        assert "None. All deliveries are done or in progress." in advice(admin_client)

    def test_names_a_silent_relay_first(self, outbox, alive, admin_client):
        emit_and_deliver(outbox)
        sign(Kind.RELAY, ago=timedelta(minutes=4))

        assert "Start a worker of the queue outbox" in advice(admin_client)

    def test_names_a_queue_without_worker_if_deliveries_wait(self, outbox, alive, admin_client):
        sign(Kind.WORKER, queues=["outbox", "scales"])
        without_work = advice(admin_client)
        emit_and_deliver(outbox)
        let_wait(queue="labels")

        assert "Start one with <code>-Q labels</code>" in advice(admin_client)
        assert "labels" not in without_work

    def test_names_a_queue_that_takes_no_message(self, outbox, alive, admin_client):
        """Failed: it advised to start a worker, although one runs."""
        refuse("labels")
        emit_and_deliver(outbox)
        let_wait(queue="labels")

        said = advice(admin_client)

        assert "has no worker" not in said
        assert "The queue labels has taken no message from host.1 for " in said
        assert f'href="{HEALTH_CHECKS}"' in said

    def test_names_a_queue_that_takes_no_message_if_no_delivery_waits(
        self, outbox, alive, admin_client
    ):
        """Failed: the health said that it does not work, and the advice that all is done."""
        refuse("outbox.nudge")

        assert "The queue outbox.nudge has taken no message" in advice(admin_client)

    @pytest.mark.parametrize("problem", ["failing", "dead", "breaker"])
    def test_names_refused_nudges_after_what_is_not_delivered(
        self, outbox, alive, admin_client, problem
    ):
        """Failed: the queue of nudges came first, although relays poll without them."""
        refuse("outbox.nudge")
        if problem == "breaker":
            Subscription.objects.filter(handler="tests.weigh_parcel").update(
                breaker_opened_at=timezone.now()
            )
        else:
            emit_and_deliver(outbox)
        if problem == "failing":
            due = timezone.now() + timedelta(hours=1)
            Delivery.objects.filter(state="dead").update(state="pending", due_at=due)

        said = advice(admin_client)

        assert "tests.weigh_parcel" in said
        assert "outbox.nudge" not in said

    def test_names_a_source_that_cannot_receive(self, outbox, alive, admin_client, settings):
        """Failed: the next step was "None"."""
        configure(settings)
        sign(Kind.RECEIVER, queues=["billing"])
        note_failure("billing", "access denied.")

        said = advice(admin_client)

        assert "The source billing cannot receive: access denied. Correct the cause." in said
        assert f'href="{reverse("admin:outbox_event_sources")}"' in said

    def test_links_to_dead_letters(self, outbox, alive, admin_client):
        emit_and_deliver(outbox, 2)

        said = advice(admin_client)

        assert "2 deliveries of tests.weigh_parcel failed (" in said
        assert f'href="{DEAD}?handler=tests.weigh_parcel"' in said

    def test_names_a_paused_handler_if_deliveries_wait(self, outbox, alive, admin_client):
        operations.pause("tests.weigh_parcel", by="user:1", reason="Broken scales")
        emit_and_deliver(outbox)

        assert "tests.weigh_parcel is paused, and" in advice(admin_client)

    def test_names_an_open_breaker(self, outbox, alive, admin_client):
        Subscription.objects.filter(handler="tests.label_parcel").update(
            breaker_opened_at=timezone.now(), breaker_reason="ConnectionRefusedError"
        )

        said = advice(admin_client)
        assert "The breaker of tests.label_parcel is open" in said
        assert "If it succeeds, the breaker closes." in said
        # Failed: deliveries that have failed wait for their own times, and the window is small.
        assert "all its deliveries" not in said

    def test_leaves_out_the_breaker_of_an_ended_handler(self, outbox, alive, admin_client):
        """Failed: it named a breaker that no probe closes, for ever."""
        Subscription.objects.filter(handler="tests.label_parcel").update(
            breaker_opened_at=timezone.now(), breaker_reason="ConnectionRefusedError"
        )
        operations.end("tests.label_parcel", by="ann", reason="its system is gone")

        assert "None. All deliveries are done or in progress." in advice(admin_client)

    def test_names_a_handler_whose_delivery_waits_for_a_worker(self, outbox, alive, admin_client):
        Subscription.objects.filter(handler="tests.weigh_parcel").update(active=False)
        emit_and_deliver(outbox)
        let_wait(queue="labels")

        said, late = advice(admin_client), Delivery.objects.get()
        assert "tests.label_parcel is behind: a delivery has waited for a worker for 2 min" in said
        # Its page says why it waits.
        assert f'href="{reverse("admin:outbox_delivery_change", args=[late.pk])}"' in said

    def test_names_events_that_wait_for_the_relay(self, outbox, alive, admin_client):
        """Failed: "None. All deliveries are done or in progress.", which the alert links to."""
        outbox.given("tests.Sent", key=str(uuid4()))
        assert "None. All deliveries are done or in progress." in advice(admin_client)

        Event.objects.update(emitted_at=timezone.now() - timedelta(minutes=5))

        said = advice(admin_client)
        assert "Events wait for the relay, the oldest for 5 min" in said
        assert "Run <code>manage.py outbox doctor</code>." in said

    def test_is_none_during_a_replay_of_an_old_event(self, outbox, alive, admin_client):
        """Failed: the handler was "behind" by the age of the event."""
        Subscription.objects.filter(handler="tests.weigh_parcel").update(active=False)
        emit_and_deliver(outbox)
        Event.objects.update(emitted_at=timezone.now() - timedelta(days=20))
        choice = operations.Choice(handler="tests.label_parcel")
        operations.replay(choice, by="ann", reason="a test")

        assert Delivery.objects.get().state == "pending"
        assert "None. All deliveries are done or in progress." in advice(admin_client)

    def test_names_a_handler_that_the_deployed_code_lacks(self, outbox, alive, admin_client):
        Subscription.objects.filter(handler="tests.weigh_parcel").update(active=False)
        Subscription.objects.filter(handler="tests.label_parcel").update(known=False)
        emit_and_deliver(outbox)

        assert Delivery.objects.get().state == "parked"
        assert "does not subscribe tests.label_parcel to tests.Sent" in advice(admin_client)


class TestTheLivePart:
    def test_is_not_sent_again_if_it_is_unchanged(self, outbox, alive, admin_client):
        with time_machine.travel(timezone.now(), tick=False):  # a chart names its minutes
            first = admin_client.get(PART)
            again = admin_client.get(PART, headers={"If-None-Match": first["ETag"]})

        assert "outbox-tiles" in first.content.decode()
        assert (again.status_code, again.content) == (304, b"")

    def test_is_sent_if_it_has_changed(self, outbox, alive, admin_client):
        first = admin_client.get(PART)
        emit_and_deliver(outbox)

        again = admin_client.get(PART, headers={"If-None-Match": first["ETag"]})

        assert again.status_code == 200


class TestItsCost:
    def test_does_not_grow_with_stored_events(self, outbox, alive, admin_client):
        emit_and_deliver(outbox)
        few = self.queries(admin_client)
        emit_and_deliver(outbox, 20)

        many = self.queries(admin_client)

        assert len(many) == len(few) <= 24

    def queries(self, client: Client) -> list[str]:
        client.get(PART)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(PART).status_code == 200
        return [query["sql"] for query in captured.captured_queries]

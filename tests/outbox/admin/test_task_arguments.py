"""Arguments of stored tasks: no page and no command shows them without a permission."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from outbox import PermanentFailure
from outbox.celery import OutboxTask
from outbox.models import DelayedEvent, Delivery, Event, Minute, Subscription
from outbox.testing import Outbox
from tests.outbox.admin.test_permissions import OPERATOR, PAGES, VIEWER, address, user
from tests.outbox.celery_tasks import conftest as of_celery
from tests.outbox.command import outbox_command
from tests.outbox.tasks_backend import conftest as of_django

pytestmark = pytest.mark.django_db(transaction=True)

celery = of_celery.celery
configure = of_django.configure
sender = of_celery.sender

SECRET = "hanako.yamada@example.com"
#: Two arguments that no pattern of personal data finds, and one that a pattern finds.
ARGUMENTS: tuple[str, str, str] = (SECRET, "Hanako Yamada", "1-2-3 Chiyoda")
#: What each command shows of a stored task, a delivery or an event.
COMMANDS: dict[str, Callable[[Event, Delivery], tuple[str, ...]]] = {
    "why, by the delivery": lambda _, delivery: ("why", str(delivery.pk)),
    "why, by the event": lambda event, _: ("why", str(event.id)),
    "why, by the key": lambda event, _: ("why", event.key),
    "tail": lambda _event, _: ("tail", "--no-follow"),
    "groups": lambda _event, _: ("groups",),
    "groups, as JSON": lambda _event, _: ("groups", "--json"),
    "status": lambda _event, _: ("status", "--json"),
    "rehearse": lambda _event, _: ("rehearse",),
    "retry, not done": lambda _event, _: ("retry", "--dead", "--reason", "a", "--dry-run"),
}


@pytest.fixture(params=["django.tasks", "celery"])
def stored(request: pytest.FixtureRequest) -> Event:
    """A task that is dead, with its arguments in the text of its failure, and a delayed one."""
    if request.param == "celery":
        call_celery_tasks(request.getfixturevalue("celery"), request.getfixturevalue("sender"))
    else:
        enqueue_tasks(request.getfixturevalue("configure"))
    delivery = Delivery.objects.get()
    assert delivery.state == Delivery.State.DEAD
    assert SECRET in str(delivery.event.payload)
    assert SECRET in str(DelayedEvent.objects.get().payload)
    return delivery.event


def call_celery_tasks(celery: Celery, sender: Outbox) -> None:
    def refuse(name: str, args: Any, kwargs: Any, *_rest: Any, **_more: Any) -> None:
        raise PermanentFailure(f"{name} has no route for {args} and {kwargs}")

    @celery.task(base=OutboxTask, shared=False, name="parcels.send_label")
    def send_label(*_args: str, **_kwargs: str) -> None: ...

    email, name, street = ARGUMENTS
    send_label.apply_async((email, name), {"street": street})
    send_label.apply_async((email, name), {"street": street}, countdown=3600)
    celery.conf.task_routes = [refuse]
    sender.deliver_all(raise_errors=False)


def enqueue_tasks(configure: of_django.Configure) -> None:
    from tests.outbox.tasks_backend import jobs

    outbox = configure()
    email, name, street = ARGUMENTS
    jobs.refuse_with.enqueue(email, name, street=street)
    later = jobs.timezone.now() + timedelta(hours=1)
    jobs.refuse_with.using(run_after=later).enqueue(email, name, street=street)
    outbox.deliver_all(raise_errors=False)


@pytest.fixture
def rows(stored: Event) -> dict[str, object]:
    return {
        "event": stored,
        "delivery": Delivery.objects.get(),
        "delayedevent": DelayedEvent.objects.get(),
        "subscription": Subscription.objects.get(),
        "minute": Minute.objects.first(),
    }


def shown_on(pages: Client, rows: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each page that exists for these rows."""
    for name in PAGES:
        if name.split("_")[1] in rows:
            query = {"q": rows["event"].key} if "timeline" in name else {}  # type: ignore[attr-defined]
            answer = pages.get(address(name, rows), query)
            assert answer.status_code == 200, name
            yield name, answer.content.decode()


class TestTheArgumentsOfATask:
    @pytest.mark.parametrize("kind", ["viewer", "superuser"])
    def test_are_masked_on_every_page(self, rows: dict[str, object], kind: str):
        """Its failure, whose text quotes them, is one of the pages' texts."""
        client = user(kind, *VIEWER, is_superuser=kind == "superuser")

        pages = dict(shown_on(client, rows))

        assert "outbox_event_change" in pages
        assert "PermanentFailure" in pages["outbox_delivery_change"]
        assert "***" in pages["outbox_delayedevent_change"]
        leaks = [(name, one) for name, text in pages.items() for one in ARGUMENTS if one in text]
        assert leaks == []

    def test_are_masked_in_the_form_that_corrects_them(self, rows: dict[str, object]):
        answer = user("operator", *OPERATOR).get(address("outbox_delivery_correct", rows))

        assert answer.status_code == 200
        assert "***" in answer.content.decode()
        assert not any(one in answer.content.decode() for one in ARGUMENTS)

    def test_are_shown_only_with_the_permission_to_see_sensitive_fields(
        self, rows: dict[str, object]
    ):
        url = address("outbox_event_sensitive", rows)
        without = user("without", *[one for one in OPERATOR if one != "view_sensitive"])
        blind = user("blind", *[one for one in OPERATOR if one != "view_event"])

        assert without.post(url).status_code == blind.post(url).status_code == 403
        assert LogEntry.objects.count() == 0
        assert SECRET in user("with", "view_event", "view_sensitive").post(url).content.decode()
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize("command", COMMANDS)
    def test_are_masked_in_every_command(self, stored: Event, command: str):
        printed = outbox_command(*COMMANDS[command](stored, Delivery.objects.get()))

        assert printed
        assert not any(one in printed for one in ARGUMENTS)

    def test_are_masked_in_logs(self, stored: Event, caplog: pytest.LogCaptureFixture):
        text = "\n".join(one.getMessage() for one in caplog.get_records("setup"))

        assert "PermanentFailure" in text
        assert not any(one in text for one in ARGUMENTS)


class TestTheTimelineOfATask:
    def test_requires_the_permission_to_view_events(self, rows: dict[str, object]):
        """Staff who may see deliveries, and not events, find no task by its name."""
        client = user("looker", *[one for one in VIEWER if one != "view_event"])

        answer = client.get(reverse("admin:outbox_event_timeline"), {"q": rows["event"].key})  # type: ignore[attr-defined]

        assert answer.status_code == 403

"""Permissions: every address of the outbox's admin, as five kinds of user."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from pytest_django import Settings

from outbox import Breaker, DomainEvent, Pause, PermanentFailure, Sensitive, subscribe
from outbox.models import (
    Alert,
    DelayedEvent,
    Delivery,
    Event,
    Heartbeat,
    Operation,
    Settlement,
    SourceState,
    Subscription,
)
from outbox.policy import Action
from outbox.testing import Outbox
from tests.outbox.confirmations import confirmation
from tests.outbox.parcels import client_with, links_of
from tests.outbox.sources.messages import configure

#: Which permission each address asks for, apart from those that nobody has.
PAGES = {
    "outbox_minute_changelist": "view_minute",
    "outbox_minute_part": "view_minute",
    "outbox_minute_health_checks": "view_minute",
    "outbox_minute_periodic": "view_minute",
    "outbox_minute_contracts": "view_minute",
    "outbox_minute_contracts_download": "view_minute",
    "outbox_event_changelist": "view_event",
    "outbox_event_change": "view_event",
    "outbox_event_history": "view_event",
    "outbox_event_timeline": "view_event",
    "outbox_event_timeline_part": "view_event",
    "outbox_event_timeline_condition": "view_event",
    "outbox_event_sinks": "view_event",
    "outbox_event_sources": "view_event",
    "outbox_delayedevent_changelist": "view_delayedevent",
    "outbox_delayedevent_change": "view_delayedevent",
    "outbox_delayedevent_history": "view_delayedevent",
    "outbox_delivery_changelist": "view_delivery",
    "outbox_delivery_change": "view_delivery",
    "outbox_delivery_history": "view_delivery",
    "outbox_delivery_dead": "view_delivery",
    "outbox_delivery_blocked": "view_delivery",
    "outbox_subscription_changelist": "view_subscription",
    "outbox_subscription_change": "view_subscription",
    "outbox_subscription_history": "view_subscription",
    "outbox_subscription_map": "view_subscription",
    "outbox_subscription_handlers": "view_subscription",
    "outbox_subscription_handlers_part": "view_subscription",
    "outbox_operation_changelist": "view_operation",
    "outbox_operation_change": "view_operation",
    "outbox_operation_history": "view_operation",
    "outbox_operation_part": "view_operation",
    "outbox_settlement_changelist": "view_settlement",
    "outbox_settlement_change": "view_settlement",
    "outbox_settlement_history": "view_settlement",
    "outbox_alert_changelist": "view_alert",
    "outbox_alert_change": "view_alert",
    "outbox_alert_history": "view_alert",
}
#: What changes something or shows a secret: the permission beyond seeing, and a form that does it.
DEEDS = {
    "outbox_delivery_dead_act": ("retry_delivery", {"action": "retry", "group": "1"}),
    "outbox_delivery_correct": ("correct_event", {}),
    "outbox_event_sensitive": ("view_sensitive", {}),
    "outbox_event_sinks_sensitive": ("view_sensitive", {}),
    "outbox_operation_go_on": ("retry_delivery", {}),
    "outbox_operation_give_up": ("retry_delivery", {}),
}
#: The map about an event and about a handler.
MAPS = [f"outbox_subscription_map?process=tests.{one}" for one in ("Crated", "lift_crate")]
#: A page for all staff. It shows only what the user may view: see test_search.py.
FOR_ALL_STAFF = {"outbox_minute_search"}
#: Rows that the engine alone writes: for nobody, superusers neither.
NOBODYS = ("add", "delete")

VIEWER = sorted(set(PAGES.values()))
ACTIONS = {
    "retry": "retry_delivery",
    "discard": "discard_delivery",
    "replay": "replay_delivery",
    "pause": "pause_subscription",
    "resume": "pause_subscription",
    "close_breaker": "pause_subscription",
}
OPERATOR = [*VIEWER, *{permission for permission, _form in DEEDS.values()}, *ACTIONS.values()]


class Crated(DomainEvent, key="crate_id"):
    """A crate is full."""

    crate_id: UUID
    packer: Sensitive[str] = "ann@example.com"


@pytest.fixture
def rows(own_registry: None, no_nudge: None) -> dict[str, object]:
    """One row of each kind; the delivery is dead."""

    @subscribe("tests.Crated")
    def lift_crate() -> None:
        raise PermanentFailure("too heavy")

    outbox, now = Outbox(), timezone.now()
    outbox.given("tests.Crated", crate_id=uuid4())
    outbox.deliver_all(raise_errors=False)
    Subscription.objects.update(breaker_opened_at=now)
    return {
        "event": Event.objects.get(),
        "delivery": Delivery.objects.get(),
        "subscription": Subscription.objects.get(),
        "operation": Operation.objects.create(
            action="retry", by="user:1", started_at=now, seen_at=now
        ),
        "delayedevent": DelayedEvent.objects.create(
            due_at=now, name="tests.Crated", key="1", payload={}, stored_at=now,
            correlation_id=uuid4(),
        ),
        "settlement": Settlement.objects.create(
            delivery=Delivery.objects.get(), event=uuid4(), consumer="billing", due_at=now
        ),
        "alert": Alert.objects.create(
            problem="dead", trigger="dead", text="", opened_at=now, seen_at=now
        ),
    }  # fmt: skip


def names() -> Iterator[str]:
    """All names of addresses of the outbox's admin, as Django knows them."""
    resolvers = [one for one in get_resolver().url_patterns if isinstance(one, URLResolver)]
    (admin,) = (one for one in resolvers if one.namespace == "admin")
    waiting = list(admin.url_patterns)
    while waiting:
        pattern = waiting.pop()
        if isinstance(pattern, URLPattern):
            if (pattern.name or "").startswith("outbox_"):
                yield str(pattern.name)
        else:
            waiting += pattern.url_patterns


def address(name: str, rows: dict[str, object]) -> str:
    model = name.split("_")[1]
    try:
        return reverse(f"admin:{name}")
    except NoReverseMatch:
        return reverse(f"admin:{name}", args=[rows[model].pk])  # type: ignore[attr-defined]


def user(name: str, *permissions: str, is_staff: bool = True, is_superuser: bool = False) -> Client:
    made = User.objects.create_user(name, is_staff=is_staff, is_superuser=is_superuser)
    found = Permission.objects.filter(codename__in=permissions, content_type__app_label="outbox")
    assert found.count() == len(set(permissions))
    made.user_permissions.set(found)
    client = Client()
    client.force_login(made)
    return client


@pytest.fixture
def clients(db: None) -> dict[str, Client]:
    return {
        "anonymous": Client(),
        "customer": user("customer", is_staff=False),
        "staff": user("staff"),
        "viewer": user("viewer", *VIEWER),
        "operator": user("operator", *OPERATOR),
        "superuser": user("superuser", is_superuser=True),
    }


SECRET = "clause 17 of the contract"
#: Pages that explain why a handler is held, for people who may not see deliveries.
EXPLAINING = [
    "outbox_subscription_changelist",
    "outbox_subscription_change",
    "outbox_subscription_handlers",
    "outbox_subscription_handlers_part",
    "outbox_minute_changelist",
    "outbox_minute_part",
    "outbox_minute_health_checks",
]


class TestTheTextOfAFailure:
    """Of a handler that its rule has paused, and of one whose breaker is open."""

    @pytest.fixture(params=["paused", "paused during its backfill", "breaker open"])
    def held(self, request: pytest.FixtureRequest, own_registry: None, no_nudge: None) -> object:
        rules: dict[type[Exception], Action] = {}
        if "paused" in request.param:
            rules[ValueError] = Pause("look at the contract")
        breaker = None if rules else Breaker(on=(ValueError,), failures=1)

        @subscribe("tests.Crated", rules=rules, breaker=breaker)
        def lift_crate() -> None:
            raise ValueError(SECRET)

        outbox = Outbox()
        outbox.given("tests.Crated", crate_id=uuid4())
        outbox.deliver_all(raise_errors=False)
        row = Subscription.objects.get()
        assert SECRET in row.pause_reason + row.breaker_reason
        if "backfill" in request.param:
            assert row.paused_at is not None
            Operation.objects.create(
                action="backfill", by="user:1", started_at=row.paused_at, seen_at=timezone.now()
            )
        return row

    @pytest.mark.parametrize("name", EXPLAINING)
    def test_is_hidden_without_the_permission_to_view_deliveries(self, held: object, name: str):
        """Failed: the reason of a pause by a rule was shown."""
        client = user("looker", "view_subscription", "view_minute")

        answer = client.get(address(name, {"subscription": held}))

        assert answer.status_code == 200
        assert SECRET not in answer.content.decode()

    def test_is_shown_with_the_permission_to_view_deliveries(self, held: object):
        client = user("looker", "view_subscription", "view_delivery")

        text = client.get(address("outbox_subscription_changelist", {})).content.decode()

        assert SECRET in text


class TestTheFailureOfASource:
    @pytest.fixture(autouse=True)
    def failing(self, own_registry: None, db: None, settings: Settings) -> None:
        """A source whose receiver runs, and cannot reach the other system."""
        configure(settings)
        now = timezone.now()
        Heartbeat.objects.create(
            kind="receiver", name="one", queues=["billing"], started_at=now, seen_at=now
        )
        SourceState.objects.create(source="billing", failing_at=now, failure=SECRET)

    def health_checks(self, *permissions: str) -> str:
        client = user("looker", *permissions)
        return client.get(address("outbox_minute_health_checks", {})).content.decode()

    def test_is_hidden_without_the_permission_to_view_deliveries(self):
        """Failed: the health checks showed it."""
        text = self.health_checks("view_minute")

        assert "It has not received for " in text
        assert SECRET not in text

    def test_is_shown_with_the_permission_to_view_deliveries(self):
        assert SECRET in self.health_checks("view_minute", "view_delivery")


class TestTheMatrix:
    def test_knows_every_address(self):
        """A page that somebody adds is held to it: without its line here this fails."""
        known = {*PAGES, *DEEDS, *FOR_ALL_STAFF}
        nobodys = {name for name in names() if name.rpartition("_")[2] in NOBODYS}

        assert set(names()) - nobodys == known

    @pytest.mark.parametrize("name", sorted(PAGES))
    def test_shows_a_page_only_with_its_view_permission(self, rows, clients, name):
        url = address(name, rows)

        answers = {kind: client.get(url).status_code for kind, client in clients.items()}

        assert answers == {
            "anonymous": 302,
            "customer": 302,
            "staff": 403,
            "viewer": 200,
            "operator": 200,
            "superuser": 200,
        }

    @pytest.mark.parametrize("name", sorted(PAGES))
    def test_requires_one_permission_for_each_page(self, rows, name):
        """All the others do not open it."""
        url, wanted = address(name, rows), PAGES[name]
        others = [permission for permission in OPERATOR if permission != wanted]

        assert user("with", wanted).get(url).status_code == 200
        assert user("without", *others).get(url).status_code == 403

    @pytest.mark.parametrize("others", [[], [permission for permission, _form in DEEDS.values()]])
    @pytest.mark.parametrize("page", [*sorted(PAGES), *MAPS])
    def test_links_on_a_page_only_to_what_its_user_may_open(self, rows, page, others):
        """Failed: names of events, keys, numbers of deliveries and users were links for all."""
        name, mark, query = page.partition("?")
        ann = f"user:{User.objects.create_user('ann').pk}"
        Event.objects.update(actor=ann, tenant="acme")
        DelayedEvent.objects.update(actor=ann)
        Operation.objects.update(by=ann, action="backfill", choice={"handler": "tests.lift_crate"})
        Subscription.objects.update(paused_at=timezone.now(), paused_by=ann)
        Alert.objects.update(path=reverse("admin:outbox_delivery_dead"))
        client = client_with(PAGES[name], *others)

        found = links_of(client, address(name, rows) + mark + query)

        assert {url for url, status in found.items() if status == 403} == set()

    @pytest.mark.django_db(transaction=True)  # some are done by a thread
    @pytest.mark.parametrize("name", sorted(DEEDS))
    def test_allows_a_post_only_with_its_permission(self, rows, clients, name):
        url = address(name, rows)
        permission, form = DEEDS[name]
        before = self.state()
        others = [one for one in OPERATOR if one != permission]
        clients["all but it"] = user("other", *others)

        for kind in ("anonymous", "customer", "staff", "viewer", "all but it"):
            answer = clients[kind].post(url, {**form, "reason": "no", "rate": "1", "payload": "{}"})
            assert answer.status_code in (302, 403), kind
            assert self.state() == before, kind
        assert clients["operator"].post(url, form).status_code in (200, 302)

    @pytest.mark.parametrize(("action", "permission"), sorted(ACTIONS.items()))
    def test_allows_an_action_only_with_its_permission(self, rows, clients, action, permission):
        model = permission.rpartition("_")[2]
        url = reverse(f"admin:outbox_{model}_changelist")
        form = {"action": action, "_selected_action": [rows[model].pk]}
        if action in ("discard", "replay"):
            form = confirmation(clients["superuser"], url, form)
        form["reason"] = "because"
        before = self.state()
        clients["all but it"] = user("other", *[one for one in OPERATOR if one != permission])

        for kind in ("anonymous", "customer", "staff", "viewer", "all but it"):
            clients[kind].post(url, form)
            assert self.state() == before, kind

    @pytest.mark.parametrize(
        "model", ["event", "delivery", "subscription", "operation", "settlement"]
    )
    def test_allows_no_user_to_add_or_delete_a_row(self, rows, clients, model):
        pages = [address(f"outbox_{model}_{what}", rows) for what in NOBODYS]

        answers = {clients["superuser"].get(page).status_code for page in pages}

        assert answers == {403}

    def state(self) -> object:
        """All that a deed could change."""
        return (
            list(Delivery.objects.order_by("pk").values_list("state", "note")),
            list(Subscription.objects.order_by("pk").values_list("paused_at", "breaker_opened_at")),
            list(Operation.objects.order_by("pk").values_list("state", "touched")),
            Event.objects.count(),
            LogEntry.objects.count(),
        )

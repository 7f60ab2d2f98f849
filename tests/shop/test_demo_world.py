"""The demo with a carrier: its settings, its result, and the carrier's answers in the shop."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from orders.models import Order
from outbox import events, subscriptions
from outbox.models import Event, Settlement
from outbox.relay.passes import relay_pass
from outbox.sinks.publishing import register_sinks
from outbox.sources import ReceivedMessage
from outbox.sources.configuration import SourceConfig, configured
from outbox.sources.storing import store
from outbox.testing import Outbox
from shop.demo.result import ReconcileResult
from shop.demo.world import environment, kafka
from shop.demo.world.result import BOOKED, READY, SHIPPED, WorldResult, problem_of
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

carrier = pytest.importorskip("shop.demo.world.carrier", reason="confluent-kafka is not installed.")

BALANCED = ReconcileResult(balanced=True, report="")
GOOD = WorldResult(
    orders=8,
    shipped=8,
    answers=8,
    repeated=2,
    settlements=32,
    unreported=0,
    emails=32,
    unsettled=0,
    books=BALANCED,
)


def chain() -> list[dict[str, Any]]:
    """Return the events of an order that was shipped because of the carrier's answer."""
    ready, booked, shipped = (str(uuid4()) for _ in range(3))
    return [
        {"id": ready, "name": READY, "caused_by": str(uuid4())},
        {"id": booked, "name": BOOKED, "caused_by": ready},
        {"id": shipped, "name": SHIPPED, "caused_by": booked},
    ]


class TestTheSettings:
    def test_have_a_sink_and_a_source_beside_those_of_every_demo(self, settings: Settings):
        variables = {"OUTBOX": '{"LEASE_SECONDS": 30}'}

        environment.prepare(variables, kafka="127.0.0.1:9092")

        outbox = json.loads(variables["OUTBOX"])
        assert outbox["LEASE_SECONDS"] == 30
        assert outbox["SINKS"]["carrier"]["TOPIC"] == carrier.ORDERS
        settings.OUTBOX = outbox
        assert configured()["carrier"].topics == (carrier.PARCELS,)


class TestAMissingServer:
    @pytest.mark.parametrize("package", ["noida_db", "confluent_kafka"])
    def test_is_named_in_one_sentence_with_the_next_step(
        self, package: str, tmp_path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(kafka, "find_spec", lambda name: None if name == package else name)

        with pytest.raises(kafka.KafkaMissing, match=f"{package.replace('_', '-')} is missing"):
            kafka.server(port=1, data=tmp_path)


class TestAResult:
    def test_is_good_if_each_order_has_one_answer_and_is_shipped(self):
        assert (GOOD.trouble, GOOD.exit_code) == ("", 0)
        assert json.loads(GOOD.line(seconds=1.25))["repeated_messages"] == 2

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (replace(GOOD, unsettled=1), "outbox why"),
            (replace(GOOD, answers=9), "9 answers"),
            (replace(GOOD, unreported=1), "not reported 1 published"),
            (replace(GOOD, shipped=7), "7 are shipped"),
            (replace(GOOD, problems=["No answer to A."]), "No answer to A."),
            (
                replace(GOOD, books=ReconcileResult(balanced=False, report="off by one")),
                "off by one",
            ),
        ],
    )
    def test_is_bad_otherwise(self, bad: WorldResult, words: str):
        assert bad.exit_code == 1
        assert words in bad.trouble


class TestAReport:
    def test_has_the_same_id_for_a_repeated_event_and_another_one_for_a_replay(self):
        event, replay = {"ce_id": "7"}, {"ce_id": "7", "ce_replay": "1"}

        assert carrier.settled(event) == carrier.settled(dict(event))
        assert carrier.settled(replay)["id"] != carrier.settled(event)["id"]
        assert carrier.settled(replay)["data"] == carrier.settled(event)["data"]


class TestTheTimelineOfAnOrder:
    def test_is_as_required_if_each_event_causes_the_next(self):
        assert problem_of("A", chain()) == ""

    @pytest.mark.parametrize("missing", [0, 1, 2])
    def test_is_reported_without_one_of_the_events(self, missing: int):
        found = chain()
        name = found.pop(missing)["name"]

        assert problem_of("A", found) == (
            f"The timeline of A has 0 events {name}, and must have one."
        )

    def test_is_reported_with_two_answers(self):
        found = chain()

        assert "2 events carrier.ParcelBooked" in problem_of("A", [*found, found[1]])

    @pytest.mark.parametrize("effect", [1, 2])
    def test_is_reported_if_an_event_has_another_cause(self, effect: int):
        found = chain()
        found[effect]["caused_by"] = str(uuid4())

        assert f"{found[effect]['name']} must follow" in problem_of("A", found)


@pytest.fixture
def source(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceConfig]:
    """The shop's side, as the app of the demo declares it."""
    monkeypatch.setattr(events, "registry", dict(events.registry))
    settings.OUTBOX = {**settings.OUTBOX, **environment.connections("127.0.0.1:1")}
    handlers = list(subscriptions.registry)
    for name in ("shop.demo.world.events", "shop.demo.world.handlers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)
    register_sinks()
    yield configured()["carrier"]
    subscriptions.registry[:] = handlers


def answer_to(event: Event) -> ReceivedMessage:
    """Return the message with which the carrier answers."""
    caused_by = {"ce_id": str(event.id), "ce_correlationid": str(event.correlation_id)}
    number = carrier.tracking_number(str(event.id))
    return received(carrier.booked(event.key, number, caused_by=caused_by))


def received(content: dict[str, Any]) -> ReceivedMessage:
    return ReceivedMessage(
        position=f"{carrier.PARCELS}/0/{uuid4()}",
        topic=carrier.PARCELS,
        headers={"content-type": "application/cloudevents+json"},
        body=json.dumps(content).encode(),
    )


@pytest.mark.django_db(transaction=True)
class TestTheCarriersAnswer:
    @pytest.fixture
    def ready(self, source: SourceConfig) -> Event:
        put_on_sale()
        order = place()
        Order.objects.filter(pk=order.pk).update(status=Order.Status.READY_TO_SHIP)
        return Outbox().given(READY, order_id=order.pk)

    def test_ships_the_order_once_however_often_it_comes(self, source: SourceConfig, ready: Event):
        stored = store(source, [answer_to(ready), answer_to(ready)])
        store(source, [answer_to(ready)])
        Outbox().deliver_all(only="shop", twice=True)

        assert (stored["stored"], stored["duplicates"]) == (1, 1)
        order = Order.objects.get()
        assert order.status == Order.Status.SHIPPED
        assert order.tracking_number == carrier.tracking_number(str(ready.id))

    def test_settles_the_event_that_the_sink_expects_it_to(
        self, source: SourceConfig, ready: Event
    ):
        relay_pass(publish=lambda _: None, only={"sinks.carrier"})
        report = received(carrier.settled({"ce_id": str(ready.id)}))

        counts = store(source, [report, report])

        assert (counts["settlements"], counts["duplicates"]) == (1, 1)
        assert Settlement.objects.get(consumer="carrier").state == Settlement.State.SETTLED

    def test_is_in_the_orders_timeline_below_its_cause(
        self, source: SourceConfig, ready: Event, admin_client: Client
    ):
        store(source, [answer_to(ready)])
        Outbox().deliver_all(only="shop")

        answer = Event.objects.get(name=BOOKED)
        assert (answer.causation_id, answer.correlation_id) == (ready.id, ready.correlation_id)
        assert Event.objects.get(name=SHIPPED).causation_id == answer.id
        url = reverse("admin:orders_order_change", args=[UUID(ready.key)])
        assert "Parcel booked" in admin_client.get(url).content.decode()

"""The settings of sinks and sources are validated, and the two sides are checked together."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from outbox.checks.settlements import check_settlements
from outbox.models import Subscription
from outbox.policy import SettledBy
from outbox.sinks.configuration import configured
from outbox.sources import configuration as sources
from outbox.testing import Outbox
from tests.outbox.settlements.world import EVENT, configure_sinks, source_entry

SINK = {"BACKEND": "tests.outbox.sinks.memory.MemorySink", "EVENTS": [EVENT]}


def use(settings: Settings, *, sink: dict[str, Any], **source: Any) -> None:
    settings.OUTBOX = {"SOURCE": "/tests", "SINKS": {"log": {**SINK, **sink}}}
    if source:
        settings.OUTBOX["SOURCES"] = {"billing": source_entry(**source)}


def found() -> list[CheckMessage]:
    return list(check_settlements())


class TestASink:
    def test_without_consumers_expects_nothing(self, settings: Settings):
        use(settings, sink={})

        assert configured()["log"].settled_by is None

    def test_has_a_deadline_of_five_minutes_and_three_replays(self, settings: Settings):
        use(settings, sink={"CONSUMERS": ["billing"]})

        assert configured()["log"].settled_by == SettledBy(
            consumers=("billing",), seconds=300, replays=3
        )

    @pytest.mark.parametrize(
        ("keys", "text"),
        [
            ({"CONSUMERS": "billing"}, "a list of names of consumers"),
            ({"CONSUMERS": ["the billing"]}, "'the billing' does not fit"),
            ({"CONSUMERS": ["a,b"]}, "'a,b' does not fit"),
            ({"CONSUMERS": [f"consumer-{n}" for n in range(200)]}, "more than 1000 characters"),
            ({"CONSUMERS": ["billing"], "SETTLE_SECONDS": 0}, "seconds above zero"),
            (
                {"CONSUMERS": ["billing"], "SETTLE_SECONDS": float("inf")},
                "seconds above zero, at most a hundred years",
            ),
            (
                {"CONSUMERS": ["billing"], "SETTLE_SECONDS": 10**12},
                "seconds above zero, at most a hundred years",
            ),
            ({"CONSUMERS": ["billing"], "SETTLE_REPLAYS": -1}, "a whole number of 0 or more"),
        ],
    )
    def test_refuses_an_invalid_value_by_its_name(
        self, settings: Settings, keys: dict[str, Any], text: str
    ):
        use(settings, sink=keys)

        with pytest.raises(ImproperlyConfigured, match=text):
            configured()

    @pytest.mark.django_db
    def test_stores_its_consumers_with_its_subscription(self, own_registry, settings: Settings):
        configure_sinks(settings, log={"EVENTS": [EVENT], "CONSUMERS": ["billing", "stock"]})
        Outbox()
        assert Subscription.objects.get().consumer_names == ("billing", "stock")

        configure_sinks(settings, log={"EVENTS": [EVENT]})
        Outbox()
        assert Subscription.objects.get().consumer_names == ()

    def test_with_consumers_needs_a_source(self, settings: Settings):
        use(settings, sink={"CONSUMERS": ["billing"]})
        assert [one.id for one in found()] == ["outbox.W024"]

        use(settings, sink={"CONSUMERS": ["billing"]}, UNKNOWN="keep")
        assert found() == []

    def test_over_http_needs_the_structured_encoding(self, settings: Settings):
        over_http = {
            "BACKEND": "outbox.sinks.http.HttpSink",
            "CONSUMERS": ["billing"],
            "TOPIC": "https://billing.example.com/events",
        }
        use(settings, sink=over_http, UNKNOWN="keep")
        assert [one.id for one in found()] == ["outbox.W026"]

        use(settings, sink={**over_http, "ENCODING": "structured"}, UNKNOWN="keep")
        assert found() == []


class TestASource:
    def test_that_settles_needs_a_sink_for_the_reports(self, settings: Settings):
        use(settings, sink={"EVENTS": ["*"]}, SETTLES_AS="shop")
        assert [one.id for one in found()] == ["outbox.W025"]

        use(settings, sink={"EVENTS": ["*", "outbox.Settled"]}, SETTLES_AS="shop")
        assert found() == []

    def test_refuses_a_name_with_a_space(self, settings: Settings):
        use(settings, sink={}, SETTLES_AS="the shop")

        with pytest.raises(ImproperlyConfigured, match="'the shop' does not fit"):
            sources.configured()

"""Calls of a task with the base OutboxTask that are refused: nothing is stored."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from kombu import Queue

from outbox.celery import OutboxTask
from outbox.celery_tasks.options import RefusedOption
from outbox.deliveries import subscribed
from outbox.models import DelayedEvent, Event, Subscription
from outbox.storable import UnstorableValue
from outbox.testing import Outbox

pytestmark = pytest.mark.django_db(transaction=True)


class TestARefusedCall:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"connection": object()}, "the option connection is refused"),
            ({"serializer": "pickle"}, "serializer='pickle' is refused"),
            ({"queue": Queue("labels")}, "the option queue is .* declare it in the setting"),
            ({"headers": ["x"]}, "parcels.send_label: the option headers is a list, and no dict"),
            ({"priority": "high"}, "the option priority is 'high', and no whole number"),
            ({"compression": "none"}, "the option compression is 'none', which is unknown here"),
            ({"countdown": "5"}, "the option countdown is '5', which is no time .* Pass seconds"),
            ({"countdown": float("nan")}, "the option countdown is nan, which is no time"),
            ({"countdown": 1e20}, "the option countdown is 1e.20, which is no time"),
            ({"countdown": timedelta(1)}, "the option countdown is .* Pass seconds"),
            ({"eta": "tomorrow"}, "the option eta is 'tomorrow', which is no time"),
            ({"eta": date(2031, 5, 1)}, "the option eta is .* Pass a datetime"),
            ({"eta": 5}, "the option eta is 5, which is no time"),
            ({"expires": timedelta(1)}, "the option expires is .* which is no time"),
            ({"expires": "60"}, "the option expires is '60', which is no time"),
            ({"expires": 1e20}, "the option expires is 1e.20, which is no time"),
        ],
    )
    def test_names_the_option(self, label: Any, options: dict[str, Any], text: str):
        with pytest.raises(RefusedOption, match=text):
            label.apply_async(args=[7], **options)

        assert not Event.objects.exists()
        assert not DelayedEvent.objects.exists()

    @pytest.mark.parametrize("call", [{"args": "ab"}, {"args": [7], "kwargs": ["x"]}])
    def test_names_arguments_of_another_type(self, label: Any, call: dict[str, Any]):
        """A text would become one argument for each letter."""
        with pytest.raises(TypeError, match=r"send_label: (args is a str|kwargs is a list)"):
            label.apply_async(**call)

        assert not Event.objects.exists()

    def test_is_later_than_any_time(self, label: Any):
        with pytest.raises(ValueError, match=r"would be due after the year 9999|is no time"):
            label.apply_async(args=[7], eta=datetime.max.replace(tzinfo=UTC))

    def test_has_a_value_that_no_handler_could_read(self, label: Any):
        value: Any = 7
        for _level in range(150):
            value = [value]

        with pytest.raises(UnstorableValue, match="is nested more than 100 levels deep"):
            label.delay(value)

        assert not Event.objects.exists()

    def test_would_reach_no_sender(self, label: Any):
        """Seen to be stored, fanned out to no handler, and never sent."""
        Subscription.objects.filter(handler="outbox.send_tasks").delete()
        subscribed.forget()

        with pytest.raises(ImproperlyConfigured, match=r"send_tasks has no subscription.*migr"):
            label.delay(7)

        assert not Event.objects.exists()

    @pytest.mark.parametrize(
        ("args", "kwargs", "name"),
        [([object()], {}, "parcel_id"), ([1], {"copies": {1, 2}}, "copies")],
    )
    def test_names_an_argument_that_is_not_json(
        self, label: Any, args: list[Any], kwargs: dict[str, Any], name: str
    ):
        with pytest.raises(TypeError, match=f"parcels.send_label: the argument {name} is not JSON"):
            label.apply_async(args=args, kwargs=kwargs)

        assert not Event.objects.exists()

    def test_names_a_value_that_no_database_stores(self, label: Any):
        with pytest.raises(UnstorableValue, match=r"args\[0\] contains NUL"):
            label.delay("a\x00b")

    def test_has_arguments_that_do_not_fit_the_task(self, label: Any):
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            label.delay()

    def test_is_too_large(self, label: Any):
        with pytest.raises(ValueError, match=r"have 262,\d+ bytes, and at most 262,144"):
            label.delay("x" * 262_140)

        assert not Event.objects.exists()

    def test_may_be_large_if_the_task_allows_it(self, celery: Celery, sender: Outbox):
        @celery.task(base=OutboxTask, shared=False, name="parcels.large", max_bytes=2**20)
        def send(_text: str) -> None: ...

        send.delay("x" * 262_140)

        assert Event.objects.exists()

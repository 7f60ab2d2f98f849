"""Rules of every source that is received, against its real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from outbox.deliveries import failpoints
from outbox.models import Event, Received
from outbox.sources.base import Source
from outbox.sources.configuration import configured
from tests.outbox.sources.messages import cloudevent, configure, declare_invoice_paid, new_order
from tests.outbox.sources.receiving import receiving
from tests.processes import eventually

#: Sends bodies to the topic of the test, as structured CloudEvents.
Send = Callable[[list[bytes]], None]


def bodies(number: int, *, first: int = 0) -> list[bytes]:
    """Return CloudEvents about different orders."""
    numbers = range(first, first + number)
    return [json.dumps(cloudevent(one, data=new_order())).encode() for one in numbers]


def received(source: Source, number: int) -> list[Any]:
    """Receive until there are so many messages. Acknowledge nothing."""
    found: list[Any] = []

    def enough() -> bool:
        found.extend(source.receive(100, timeout=0.5))
        return len(found) >= number

    eventually(enough, f"{number} messages")
    return found


def stored() -> int:
    return Event.objects.filter(name="billing.InvoicePaid").count()


class SourceContract:
    """Subclasses have the fixtures `given`, the settings of the source, and `send`."""

    @pytest.fixture
    def given_to_killed(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings of processes that a test kills: their messages come again soon."""
        return given

    @pytest.fixture
    def source(self, given: Mapping[str, Any], settings: Any) -> Iterator[Source]:
        made = self.new(given, settings)
        yield made
        made.close()

    def new(self, given: Mapping[str, Any], settings: Any) -> Source:
        configure(settings, **given)
        made = configured()["billing"].create()
        assert isinstance(made, Source)
        return made

    @pytest.mark.once
    def test_receives_bodies(self, source, send):
        sent = bodies(3)

        send(sent)

        assert sorted(one.body for one in received(source, 3)) == sorted(sent)

    @pytest.mark.once
    def test_does_not_receive_again_what_it_acknowledged(self, source, send):
        send(bodies(3))
        # One call may receive all of them or some. The lag cannot say how many are left: a broker
        # may count a message later than its sender returns.
        left = 3
        while left:
            messages = received(source, 1)
            source.acknowledge(messages)
            left -= len(messages)
        eventually(lambda: source.lag() == 0, "an empty queue")

        assert source.receive(10, timeout=0.5) == []

    @pytest.mark.once
    def test_receives_again_what_it_released_under_the_same_position(self, source, send):
        send(bodies(3))
        first: list[Any] = []
        while len(first) < 3:
            first += source.receive(10, timeout=0.5)

        source.release(first)
        again = received(source, 3)

        assert {one.position for one in again} == {one.position for one in first}

    @pytest.mark.once
    def test_loses_nothing_while_it_holds_messages_and_receives_none_again(self, source, send):
        send(bodies(3))
        held: list[Any] = []
        while len(held) < 3:
            held += source.receive(10, timeout=0.5)
        [new] = bodies(1, first=3)

        source.hold(held)
        send([new])
        source.hold(held)
        source.acknowledge(held)

        [last] = received(source, 1)
        assert last.body == new
        source.acknowledge([last])
        eventually(lambda: source.lag() == 0, "an empty queue")

    @pytest.mark.once
    def test_measures_the_lag(self, source, send):
        send(bodies(4))

        eventually(lambda: source.lag() == 4, "a lag of 4")

    @pytest.mark.once
    def test_finds_that_its_topics_exist(self, source):
        assert source.check(timeout=10) == []

    @pytest.mark.once
    def test_finds_a_missing_topic(self, given, settings):
        missing = self.new({**given, "TOPICS": ["missing"]}, settings)
        try:
            [problem] = missing.check(timeout=10)
        finally:
            missing.close()

        assert "missing" in problem

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("point", [failpoints.BEFORE_STORE, failpoints.AFTER_STORE])
    def test_stores_each_message_once_if_its_process_is_killed(
        self, given_to_killed, send, point, own_registry, settings
    ):
        given = given_to_killed
        declare_invoice_paid()
        configure(settings, **given)
        [bad] = bodies(1, first=99)
        send([*bodies(10), bad[:-1]])
        with receiving({"billing": given}, die_at=point) as process:
            assert process.ends() == -9, process.output

        with receiving({"billing": given}):
            eventually(lambda: stored() >= 10, "10 events")
            eventually(lambda: Event.objects.count() >= 11, "the unreadable message")
            source = configured()["billing"].create()
            assert isinstance(source, Source)
            try:
                eventually(lambda: source.lag() == 0, "all acknowledged")
            finally:
                source.close()

        assert (stored(), Event.objects.count(), Received.objects.count()) == (10, 11, 11)

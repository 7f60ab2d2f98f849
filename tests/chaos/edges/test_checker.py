"""The checker detects each violation: one value of a correct history is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.edges.arrivals import Arrival
from tests.chaos.edges.checker import check, idle
from tests.chaos.edges.facts import UNKNOWN, UNREADABLE, Facts, Stored
from tests.chaos.edges.names import OVERLOADED, SAILED
from tests.chaos.edges.sending import Sent

SHIP, WRECK = "argo", "wreck-1"
EVENTS = [Stored(id=f"a{n}", name=SAILED, fields={"ship": SHIP, "number": n}) for n in (1, 2, 3)]
HEAVY = Stored(id="a9", name=OVERLOADED, fields={"ship": WRECK, "ballast": ""})


def arrival(event: Stored) -> Arrival:
    number = event.fields.get("number", 0)
    return Arrival(id=event.id, name=event.name, ship=event.fields["ship"], number=number)


def message(number: int, *, source: str = "from_kafka", **changed: object) -> Sent:
    sent = Sent(
        id=f"{source}-{number}",
        source=source,
        kind="berthed",
        ship=SHIP,
        number=number,
        tries=1,
        is_accepted=True,
    )
    return replace(sent, **changed)  # type: ignore[arg-type]


def berthed(sent: Sent) -> Stored:
    fields = {"ship": sent.ship, "number": sent.number, "message": sent.id}
    return Stored(id=f"e-{sent.id}", name=f"{sent.source}.ShipBerthed", fields=fields)


def as_received(sent: Sent, name: str, *, id: str) -> Stored:
    fields = {"external_id": f"/port {sent.id}", "body": sent.body.decode()}
    if sent.kind == "broken":
        fields["external_id"] = "message t/0/7"
    return Stored(id=id, name=name, fields=fields)


@pytest.fixture
def facts() -> Facts:
    """Three events and a heavy one for two sinks; five messages, one of them without an answer."""
    first, second = message(1), message(2, tries=3)
    unanswered = message(3, is_accepted=False)
    invalid, broken = message(4, kind="invalid"), message(5, kind="broken", tries=2)
    undeclared = message(6, kind="undeclared")
    copies = [*map(arrival, EVENTS), arrival(EVENTS[0])]  # one arrived again, under its id
    return Facts(
        sailed={SHIP: 3},
        events=[
            *EVENTS,
            HEAVY,
            berthed(first),
            berthed(second),
            as_received(invalid, UNREADABLE, id="b1"),
            as_received(broken, UNREADABLE, id="b2"),
            as_received(broken, UNREADABLE, id="b3"),
            as_received(undeclared, UNKNOWN, id="b4"),
        ],
        dead=[
            ("sinks.kafka", HEAVY.id),
            *(("outbox.read_message", id) for id in ("b1", "b2", "b3")),
        ],
        berths=[first.id, second.id],
        sent=[first, second, unanswered, invalid, broken, undeclared],
        arrivals={
            "kafka": [list(copies)],
            "redis": [[*copies, arrival(HEAVY)]],
            "sqs": [[*reversed(copies), arrival(HEAVY)]],
        },
        limited={"kafka"},
        unordered={"sqs"},
    )


def event_of(facts: Facts, message_id: str) -> Stored:
    return next(one for one in facts.received if one.fields["message"] == message_id)


def owe_a_delivery(facts: Facts) -> None:
    facts.unsettled.append("sinks.kafka pending harbour.ShipSailed 1")


def lose_an_event(facts: Facts) -> None:
    facts.sailed[SHIP] = 4


def emit_twice(facts: Facts) -> None:
    facts.events.append(replace(EVENTS[1], id="a4"))
    for sequences in facts.arrivals.values():
        sequences[0].append(arrival(facts.events[-1]))


def lose_an_arrival(facts: Facts) -> None:
    facts.arrivals["kafka"] = [[one for one in facts.arrivals["kafka"][0] if one.number != 2]]


def lose_a_heavy_arrival(facts: Facts) -> None:
    facts.arrivals["redis"][0].remove(arrival(HEAVY))


def publish_what_nobody_emitted(facts: Facts) -> None:
    facts.arrivals["redis"][0].append(replace(arrival(HEAVY), id="a7"))


def publish_under_another_id(facts: Facts) -> None:
    facts.arrivals["redis"][0].append(replace(arrival(EVENTS[2]), id=EVENTS[1].id))


def publish_out_of_order(facts: Facts) -> None:
    facts.arrivals["redis"][0].reverse()


def publish_out_of_order_in_a_partition(facts: Facts) -> None:
    facts.arrivals["kafka"] = [[arrival(EVENTS[1]), arrival(EVENTS[0])], [arrival(EVENTS[2])]]


def give_an_event_up(facts: Facts) -> None:
    facts.dead.append(("sinks.redis", EVENTS[0].id))


def forget_a_dead_letter(facts: Facts) -> None:
    facts.dead.remove(("sinks.kafka", HEAVY.id))


def forget_an_unreadable_message(facts: Facts) -> None:
    facts.dead.remove(("outbox.read_message", "b2"))


def lose_a_message(facts: Facts) -> None:
    facts.events.remove(event_of(facts, "from_kafka-2"))
    facts.berths.remove("from_kafka-2")


def receive_twice(facts: Facts) -> None:
    facts.events.append(replace(event_of(facts, "from_kafka-2"), id="e7"))


def receive_an_unanswered_message_twice(facts: Facts) -> None:
    facts.events += [replace(berthed(facts.sent[2]), id=id) for id in ("e7", "e8")]
    facts.berths.append(facts.sent[2].id)


def receive_what_nobody_sent(facts: Facts) -> None:
    facts.events.append(berthed(message(8)))
    facts.berths.append("from_kafka-8")


def lose_an_invalid_message(facts: Facts) -> None:
    facts.events = [one for one in facts.events if one.id != "b1"]
    facts.dead.remove(("outbox.read_message", "b1"))


def keep_an_undeclared_message_twice(facts: Facts) -> None:
    facts.events.append(replace(facts.events[-1], id="b5"))


def lose_a_broken_message(facts: Facts) -> None:
    facts.events = [one for one in facts.events if one.id not in ("b2", "b3")]
    facts.dead = [one for one in facts.dead if one[1] not in ("b2", "b3")]


def keep_a_broken_message_too_often(facts: Facts) -> None:
    facts.events.append(as_received(facts.sent[4], UNREADABLE, id="b6"))
    facts.dead.append(("outbox.read_message", "b6"))


def lose_an_effect(facts: Facts) -> None:
    facts.berths.remove("from_kafka-1")


def repeat_an_effect(facts: Facts) -> None:
    facts.berths.append("from_kafka-1")


def store_messages_out_of_order(facts: Facts) -> None:
    later = event_of(facts, "from_kafka-1")
    facts.events.remove(later)
    facts.events.append(later)


CORRUPTIONS: dict[Callable[[Facts], None], str] = {
    owe_a_delivery: "lost: still owed",
    lose_an_event: "lost: the event ('argo', 4)",
    emit_twice: "duplicated: 2 events ('argo', 2)",
    lose_an_arrival: "lost: kafka never received the event a2",
    lose_a_heavy_arrival: "lost: redis never received the event a9",
    publish_what_nobody_emitted: "duplicated: redis received a7",
    publish_under_another_id: "duplicated: redis received ('argo', 3) under the id a2",
    publish_out_of_order: "out_of_order: redis: 2 after 3",
    publish_out_of_order_in_a_partition: "out_of_order: kafka: 1 after 2",
    give_an_event_up: "lost: a1 of sinks.redis is a dead letter",
    forget_a_dead_letter: "lost: the dead letter of sinks.kafka",
    forget_an_unreadable_message: "lost: the dead letter of outbox.read_message for b2",
    lose_a_message: "lost: the accepted message from_kafka-2",
    receive_twice: "duplicated: 2 events of the message from_kafka-2",
    receive_an_unanswered_message_twice: "duplicated: 2 events of the message from_kafka-3",
    receive_what_nobody_sent: "duplicated: 1 events of the message from_kafka-8",
    lose_an_invalid_message: "lost: the accepted message from_kafka-4",
    keep_an_undeclared_message_twice: "duplicated: 2 events of the message from_kafka-6",
    lose_a_broken_message: "lost: the unreadable message from_kafka-5",
    keep_a_broken_message_too_often: "duplicated: 3 of from_kafka-5",
    lose_an_effect: "lost: the handler never acted on from_kafka-1",
    repeat_an_effect: "duplicated: the handler acted 2 times on from_kafka-1",
    store_messages_out_of_order: "out_of_order: from_kafka: 1 after 2",
}


@pytest.mark.once
class TestTheChecker:
    def test_accepts_a_correct_history(self, facts):
        assert check(facts) == []

    @pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda one: one.__name__)
    def test_finds(self, facts, corrupt):
        corrupt(facts)

        found = [str(finding) for finding in check(facts)]

        assert any(text.startswith(CORRUPTIONS[corrupt]) for text in found), found

    def test_reports_a_source_that_accepted_no_message(self, facts):
        """Nothing is required of it, so a source that never works would pass."""
        assert idle(facts, ["from_kafka"]) == []
        facts.sent += [message(1, source="from_nats", is_accepted=False, tries=9)]
        facts.sent += [message(2, source="from_nats", kind="broken")]

        assert idle(facts, ["from_kafka", "from_nats", "from_sqs"]) == [
            "No event of from_nats was accepted.",
            "No event of from_sqs was accepted.",
        ]

    def test_reports_an_emitter_that_stored_no_event(self, facts):
        facts.sailed = {SHIP: 0}

        assert idle(facts, ["from_kafka"]) == ["The emitter has stored no event."]

    def test_needs_no_order_of_a_system_that_promises_none(self, facts):
        facts.arrivals["sqs"][0].reverse()

        assert check(facts) == []

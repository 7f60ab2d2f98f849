"""Compare what was emitted and sent with what has arrived, without any code of the outbox.

lost           an event did not reach a sink, or a message became no event, or something is owed
duplicated     an event has two ids, or a message became two events, or something has no cause
out_of_order   the first occurrences of a key's events are not in the order of their emission

An event may arrive more than once under its one id: that is what at-least-once means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tests.chaos.checker import DUPLICATED, LOST, OUT_OF_ORDER, Finding
from tests.chaos.edges.arrivals import Arrival
from tests.chaos.edges.facts import UNKNOWN, UNREADABLE, Facts, Stored
from tests.chaos.edges.names import OVERLOADED, SAILED
from tests.chaos.edges.sending import Sent

#: Sources whose systems keep the order of a key. SQS FIFO does, and moto does not: it gives out the
#: last message of a group first once their visibility has passed.
ORDERED_SOURCES = ("from_kafka",)
READER = "outbox.read_message"


def check(facts: Facts) -> list[Finding]:
    """Return the violations."""
    return [finding for rule in RULES for finding in rule(facts)]


def idle(facts: Facts, sources: Iterable[str]) -> list[str]:
    """Return the load that has not worked, so that rules would compare nothing with nothing."""
    working = {one.source for one in _of_kind(facts, "berthed") if one.is_accepted}
    troubles = [f"No event of {one} was accepted." for one in sources if one not in working]
    if not sum(facts.sailed.values()):
        troubles.append("The emitter has stored no event.")
    return troubles


# --- outbound -------------------------------------------------------------------------------------


def at_rest(facts: Facts) -> Iterator[Finding]:
    """No delivery is owed."""
    for line in facts.unsettled:
        yield Finding(LOST, f"still owed: {line}")


def emitted(facts: Facts) -> Iterator[Finding]:
    """Each committed transaction has its event, once."""
    found = Counter(_place(event) for event in facts.named(SAILED))
    due = {(ship, n) for ship, count in facts.sailed.items() for n in range(1, count + 1)}
    for place in sorted(due - found.keys()):
        yield Finding(LOST, f"the event {place}, whose transaction committed")
    for place, count in found.items():
        if count > 1 or place not in due:
            yield Finding(DUPLICATED, f"{count} events {place}")


def reached(facts: Facts) -> Iterator[Finding]:
    """Each sink has each event at least once, and nothing else. Too large events are dead."""
    for sink, sequences in facts.arrivals.items():
        is_limited = sink in facts.limited
        due = {event.id for event in facts.published if event.name == SAILED or not is_limited}
        arrived = {_hex(one.id) for sequence in sequences for one in sequence}
        for id in sorted(due - arrived)[:20]:
            yield Finding(LOST, f"{sink} never received the event {id}")
        for id in sorted(arrived - due)[:20]:
            yield Finding(DUPLICATED, f"{sink} received {id}, which is no event for it")


def one_id(facts: Facts) -> Iterator[Finding]:
    """All copies of an event have its id."""
    ids = {_place(event): event.id for event in facts.named(SAILED)}
    for sink, arrival in _arrivals(facts):
        if arrival.name == SAILED and _hex(arrival.id) != ids.get((arrival.ship, arrival.number)):
            place = (arrival.ship, arrival.number)
            yield Finding(DUPLICATED, f"{sink} received {place} under the id {arrival.id}")


def order_of_arrivals(facts: Facts) -> Iterator[Finding]:
    """The first occurrences of a ship's events are in order, where the system keeps it."""
    for sink, sequences in facts.arrivals.items():
        if sink not in facts.unordered:
            for sequence in sequences:
                places = [(one.ship, one.number) for one in sequence if one.name == SAILED]
                yield from _in_order(sink, dict.fromkeys(places))


def dead_letters(facts: Facts) -> Iterator[Finding]:
    """Dead are the events that are too large for a sink, and the unreadable messages."""
    due = {
        *((f"sinks.{sink}", e.id) for sink in facts.limited for e in facts.named(OVERLOADED)),
        *((READER, event.id) for event in facts.named(UNREADABLE)),
    }
    for handler, id in sorted(due - set(facts.dead)):
        yield Finding(LOST, f"the dead letter of {handler} for {id}")
    for handler, id in sorted(set(facts.dead) - due):
        yield Finding(LOST, f"{id} of {handler} is a dead letter")


# --- inbound --------------------------------------------------------------------------------------


def received(facts: Facts) -> Iterator[Finding]:
    """Each accepted message is exactly one event. A message without an answer is at most one."""
    found = Counter(event.fields["message"] for event in facts.received)
    yield from _exactly_once(found, facts, "berthed")


def kept(facts: Facts) -> Iterator[Finding]:
    """Each unreadable or undeclared message is kept, once if its id can be read."""
    for kind, name in (("invalid", UNREADABLE), ("undeclared", UNKNOWN)):
        found = Counter(
            str(event.fields["external_id"]).removeprefix("/port ")
            for event in facts.named(name)
            if str(event.fields["external_id"]).startswith("/port ")
        )
        yield from _exactly_once(found, facts, kind)
    yield from _kept_by_position(facts)


def _kept_by_position(facts: Facts) -> Iterator[Finding]:
    """A message whose id cannot be read is kept once for each position that it may have."""
    bodies = Counter(event.fields["body"] for event in facts.named(UNREADABLE))
    for one in _of_kind(facts, "broken"):
        count = bodies.pop(one.body.decode(), 0)
        if one.is_accepted and not count:
            yield Finding(LOST, f"the unreadable message {one.id}")
        if count > one.tries:
            yield Finding(DUPLICATED, f"{count} of {one.id}, which was sent {one.tries} times")


def handled(facts: Facts) -> Iterator[Finding]:
    """The handler had exactly one effect for each event of a message."""
    due = {event.fields["message"] for event in facts.received}
    found = Counter(facts.berths)
    for id in sorted(due - found.keys()):
        yield Finding(LOST, f"the handler never acted on {id}")
    for id, count in found.items():
        if count > 1 or id not in due:
            yield Finding(DUPLICATED, f"the handler acted {count} times on {id}")


def order_of_messages(facts: Facts) -> Iterator[Finding]:
    """Events of a key are stored in the order of their messages, where the system keeps it."""
    for source in ORDERED_SOURCES:
        events = facts.named(f"{source}.ShipBerthed")
        yield from _in_order(source, map(_place, events))


RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    *(at_rest, emitted, reached, one_id, order_of_arrivals, dead_letters),
    *(received, kept, handled, order_of_messages),
)


def _exactly_once(found: Counter[str], facts: Facts, kind: str) -> Iterator[Finding]:
    sent = {one.id: one for one in _of_kind(facts, kind)}
    for id, one in sent.items():
        if one.is_accepted and id not in found:
            yield Finding(LOST, f"the accepted message {id} ({kind})")
    for id, count in found.items():
        if count > 1 or id not in sent:
            yield Finding(DUPLICATED, f"{count} events of the message {id} ({kind})")


def _in_order(where: str, places: Iterable[tuple[str, int]]) -> Iterator[Finding]:
    latest: dict[str, int] = {}
    for ship, number in places:
        if number < latest.get(ship, 0):
            yield Finding(OUT_OF_ORDER, f"{where}: {number} after {latest[ship]} of {ship}")
        latest[ship] = max(number, latest.get(ship, 0))


def _of_kind(facts: Facts, kind: str) -> list[Sent]:
    return [one for one in facts.sent if one.kind == kind and one.tries]


def _arrivals(facts: Facts) -> Iterator[tuple[str, Arrival]]:
    for sink, sequences in facts.arrivals.items():
        for sequence in sequences:
            for arrival in sequence:
                yield sink, arrival


def _place(event: Stored) -> tuple[str, int]:
    return event.fields["ship"], event.fields["number"]


def _hex(id: str) -> str:
    return id.replace("-", "")

"""Compare the answers to customers with the stored state, without any code of the shop.

lost           something was promised or owed, and is not there
duplicated     something is there twice, or without a cause
out_of_order   an ordered handler saw a later event of a key before an earlier one
unbalanced     two ledgers of the same amounts differ
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.customers import address_of
from tests.chaos.facts import Facts
from tests.chaos.history import Call, by_name

LOST, DUPLICATED, OUT_OF_ORDER, UNBALANCED = "lost", "duplicated", "out_of_order", "unbalanced"

AT_REST = {"ready_to_ship", "shipped", "received", "cancelled"}
STOCK_OF = {
    "ready_to_ship": {"reserved"},
    "shipped": {"issued"},
    "received": {"issued"},
    "cancelled": {"refused", "released", "forestalled"},
}
MAILED = (
    *("orders.OrderPlaced", "payments.PaymentCaptured", "orders.OrderReadyToShip"),
    *("orders.OrderShipped", "orders.OrderCancelled", "payments.PaymentRefunded"),
)
TOLD_ONCE = MAILED[:5]
NOWHERE = ("", "nowhere", 0, "")
HANDLERS = ("record", "follow", "call_outside")


@dataclass(frozen=True)
class Finding:
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def check(calls: Sequence[Call], facts: Facts) -> list[Finding]:
    """Return the violations."""
    found: list[Finding] = []
    for rule in RULES:
        found += rule(calls, facts)
    for look in LOOKS:
        found += look(facts)
    return found


def idle(facts: Facts) -> list[str]:
    """Return a trouble if a run has not worked so far that each rule compares something."""
    if sum(facts.changes.values()):
        return []
    return ["The command change_things has stored no event."]


# --- what was answered ----------------------------------------------------------------------------


def placed(calls: Sequence[Call], facts: Facts) -> Iterator[Finding]:
    """Every 201 is exactly one order. Every request without an answer is at most one order."""
    of_address: dict[str, list[str]] = {}
    for order_id, order in facts.orders.items():
        of_address.setdefault(order[0], []).append(order_id)
    for key, tries in by_name(calls, "place").items():
        there = of_address.pop(address_of(key), [])
        promised = {_hex(call.order_id) for call in tries if call.is_granted}
        if promised - set(there):
            yield Finding(LOST, f"order {promised - set(there)} was answered for {key}")
        if len(promised | set(there)) > 1:
            yield Finding(DUPLICATED, f"{key} has the orders {promised | set(there)}")
        if there and not promised and not any(call.is_ambiguous for call in tries):
            yield Finding(DUPLICATED, f"{key} was refused, and {there} is there")
    for address, orders in of_address.items():
        yield Finding(DUPLICATED, f"no request created {orders} of {address}")


def cancelled(calls: Sequence[Call], facts: Facts) -> Iterator[Finding]:
    for order_id in _granted(calls, "cancel"):
        if (status := _status(facts, order_id)) != "cancelled":
            yield Finding(LOST, f"the cancellation of {order_id}, which is {status}")


def shipped(calls: Sequence[Call], facts: Facts) -> Iterator[Finding]:
    for call in calls:
        if call.what == "ship" and call.is_granted:
            _address, status, _total, number = facts.orders.get(_hex(call.order_id), NOWHERE)
            if status != "shipped" or number != call.wanted["tracking_number"]:
                yield Finding(LOST, f"the parcel of {call.order_id}, which is {status} {number}")


def refunded(calls: Sequence[Call], facts: Facts) -> Iterator[Finding]:
    """As with orders: each 201 is one refund. A request without an answer is at most one refund."""
    asked: Counter[tuple[str, int]] = Counter()
    for key, tries in by_name(calls, "refund").items():
        promised = {_hex(call.answer["id"]) for call in tries if call.is_granted}
        if missing := promised - facts.refunds.keys():
            yield Finding(LOST, f"the refund {missing} was answered for {key}")
        if len(promised) > 1:
            yield Finding(DUPLICATED, f"{key} has the refunds {promised}")
        if promised or any(call.is_ambiguous for call in tries):
            asked[_hex(tries[0].order_id), tries[0].wanted["amount"]["amount"]] += 1
    for refund, count in (Counter(facts.refunds.values()) - asked).items():
        yield Finding(DUPLICATED, f"{count} refund(s) {refund} more than were asked for")


# --- what is stored -------------------------------------------------------------------------------


def at_rest(facts: Facts) -> Iterator[Finding]:
    """No delivery is owed, and no order waits for an event that is never emitted."""
    for line in facts.unsettled:
        yield Finding(LOST, f"still owed: {line}")
    if facts.poison != facts.dead_poison:
        yield Finding(LOST, f"of {facts.poison} poisons {facts.dead_poison} are dead")
    for order_id, (_address, status, _total, _number) in facts.orders.items():
        if status not in AT_REST:
            yield Finding(LOST, f"order {order_id} is stuck: {status}")


def moved_once(facts: Facts) -> Iterator[Finding]:
    for move, count in Counter(facts.moves).items():
        if count > 1:
            yield Finding(DUPLICATED, f"{count} times the move {move}")
    for (name, key), count in facts.events.items():
        if name in TOLD_ONCE and count > 1:
            yield Finding(DUPLICATED, f"{count} times {name} of {key}")
    for order_id in facts.orders:
        if not facts.events.get(("orders.OrderPlaced", order_id)):
            yield Finding(LOST, f"OrderPlaced of {order_id}")


def effects(facts: Facts) -> Iterator[Finding]:
    """Each handler had exactly one effect for each event of the command `change_things`."""
    for handler in HANDLERS:
        acted = Counter((thing, n) for name, thing, n in facts.effects if name == handler)
        changes = {(thing, n) for thing, many in facts.changes.items() for n in range(1, many + 1)}
        if missing := changes - acted.keys():
            yield Finding(LOST, f"{handler} never acted on {sorted(missing)[:5]}")
        for event, count in acted.items():
            if count > 1 or event not in changes:
                yield Finding(DUPLICATED, f"{handler} acted {count} times on {event}")


def order_per_key(facts: Facts) -> Iterator[Finding]:
    latest: dict[str, int] = {}
    for handler, thing, number in facts.effects:
        if facts.is_ordered and handler == "follow":
            if number < latest.get(thing, 0):
                yield Finding(OUT_OF_ORDER, f"{number} after {latest[thing]} of {thing}")
            latest[thing] = number


# --- money, mail, goods ---------------------------------------------------------------------------


def money(facts: Facts) -> Iterator[Finding]:
    """The bank authorized, captured and refunded the amounts of each order, once."""
    for reference in facts.charges.keys() - facts.orders.keys():
        yield Finding(DUPLICATED, f"the bank knows {reference}, which is no order")
    for order_id, (_address, status, total, _number) in facts.orders.items():
        at_bank = facts.charges.get(order_id, {})
        for kind in ("authorizations", "captures", "voids"):
            if len(at_bank.get(kind, [])) > 1:
                yield Finding(DUPLICATED, f"{kind} {at_bank[kind]} of {order_id}")
        if status == "cancelled":
            yield from _all_went_back(order_id, at_bank)
        elif status in AT_REST:
            yield from _all_was_taken(order_id, at_bank, total, facts)


def _all_went_back(order_id: str, at_bank: dict[str, list[int]]) -> Iterator[Finding]:
    taken, given = sum(at_bank.get("captures", [])), sum(at_bank.get("refunds", []))
    if taken != given:
        yield Finding(UNBALANCED, f"of {taken} taken {given} went back to {order_id}")
    held = len(at_bank.get("authorizations", []))
    if held and not at_bank["captures"] and not at_bank["voids"]:
        yield Finding(LOST, f"the void of {order_id}")


def _all_was_taken(
    order_id: str, at_bank: dict[str, list[int]], total: int, facts: Facts
) -> Iterator[Finding]:
    if not at_bank.get("captures"):
        yield Finding(LOST, f"the money of {order_id}")
    elif set(at_bank["captures"]) != {total} or at_bank["voids"]:
        yield Finding(UNBALANCED, f"{at_bank} of {order_id}, which costs {total}")
    asked = Counter(amount for order, amount in facts.refunds.values() if order == order_id)
    given = Counter(at_bank.get("refunds", []))
    for amount in (asked - given).elements():
        yield Finding(LOST, f"the refund of {amount} to {order_id}")
    for amount in (given - asked).elements():
        yield Finding(DUPLICATED, f"the refund of {amount} to {order_id}")


def mail(facts: Facts) -> Iterator[Finding]:
    """Each event with an e-mail has one Message-ID, regardless of the number of copies."""
    arrived: dict[str, set[str]] = {}
    for message_id, recipient in facts.taken:
        arrived.setdefault(recipient, set()).add(message_id)
    for order_id, (address, *_rest) in facts.orders.items():
        due = sum(facts.events.get((name, order_id), 0) for name in MAILED)
        came = len(arrived.pop(address, ()))
        if came != due:
            kind = LOST if came < due else DUPLICATED
            yield Finding(kind, f"{came} e-mails to {address}, for {due} events")
    for address in arrived:
        yield Finding(DUPLICATED, f"e-mails to {address}, who ordered nothing")
    ours = {id for id, (_to, is_sent) in facts.emails.items() if is_sent}
    if ours != {id for id, _to in facts.taken}:
        yield Finding(UNBALANCED, "the e-mails noted as sent are not those that arrived")


def goods(facts: Facts) -> Iterator[Finding]:
    """Counters, ledger, reservations and orders agree."""
    reserved: Counter[str] = Counter()
    issued: Counter[str] = Counter()
    for order_id, (_address, status, _total, _number) in facts.orders.items():
        answer = facts.reservations.get(order_id, "")
        if status in STOCK_OF and answer not in STOCK_OF[status]:
            yield Finding(UNBALANCED, f"{order_id} is {status}, and its stock {answer}")
        pile = {"reserved": reserved, "issued": issued}.get(answer)
        if pile is not None:
            pile.update(facts.lines[order_id])
    for sku, counted in facts.shelf.items():
        due = (facts.received.get(sku, 0) - issued[sku], reserved[sku])
        if not counted == facts.ledger.get(sku, (0, 0)) == due:
            text = f"{sku} has {counted}, its ledger {facts.ledger.get(sku)}, its orders {due}"
            yield Finding(UNBALANCED, text)


RULES: tuple[Callable[[Sequence[Call], Facts], Iterator[Finding]], ...] = (
    *(placed, cancelled, shipped, refunded),
)
#: They compare the database with others, who may know what a database has lost.
OUTSIDE: tuple[Callable[[Facts], Iterator[Finding]], ...] = (money, mail)
LOOKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    *(at_rest, moved_once, effects, order_per_key, goods, *OUTSIDE),
)


def _granted(calls: Sequence[Call], what: str) -> set[str]:
    return {call.order_id for call in calls if call.what == what and call.is_granted}


def _status(facts: Facts, order_id: str) -> str:
    return facts.orders.get(_hex(order_id), NOWHERE)[1]


def _hex(text: str) -> str:
    return text.replace("-", "")

"""The checker detects each violation: one value of a correct history is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checker import check, idle
from tests.chaos.customers import address_of
from tests.chaos.facts import Facts
from tests.chaos.history import Call

SHIPPED, CANCELLED, UNANSWERED, REFUND = "a1", "b2", "c3", "d4"
THING = "f0"


def charges(**amounts: list[int]) -> dict[str, list[int]]:
    return {"authorizations": [], "captures": [], "voids": [], "refunds": [], **amounts}


@pytest.fixture
def calls() -> list[Call]:
    """Three orders: one shipped and partly refunded, one cancelled, one without an answer."""
    return [
        Call(what="place", name="key-1", trouble="ReadTimeout"),
        Call(what="place", name="key-1", order_id=SHIPPED, answer={"id": SHIPPED}, status=201),
        Call(what="place", name="key-2", order_id=CANCELLED, answer={"id": CANCELLED}, status=201),
        Call(what="place", name="key-3", trouble="ConnectError"),
        Call(what="place", name="key-4", trouble="ConnectError"),
        Call(what="cancel", name=CANCELLED, order_id=CANCELLED, status=200),
        Call(
            what="ship",
            name=SHIPPED,
            order_id=SHIPPED,
            wanted={"tracking_number": "1234"},
            status=200,
        ),
        Call(
            what="refund",
            name="key-5",
            order_id=SHIPPED,
            wanted={"amount": {"amount": 30}},
            answer={"id": REFUND},
            status=201,
        ),
    ]


@pytest.fixture
def facts() -> Facts:
    addresses = {SHIPPED: "key-1", CANCELLED: "key-2", UNANSWERED: "key-3"}
    emitted = [
        *[("orders.OrderPlaced", order) for order in addresses],
        *[("payments.PaymentCaptured", order) for order in (SHIPPED, UNANSWERED)],
        *[("orders.OrderReadyToShip", order) for order in (SHIPPED, UNANSWERED)],
        *[("orders.OrderShipped", SHIPPED), ("payments.PaymentRefunded", SHIPPED)],
        ("orders.OrderCancelled", CANCELLED),
    ]
    mails = [(f"<{name} {order}>", address_of(addresses[order])) for name, order in emitted]
    effects = [(name, THING, n) for n in (1, 2, 3) for name in ("record", "follow", "call_outside")]
    return Facts(
        orders={
            SHIPPED: (address_of("key-1"), "shipped", 100, "1234"),
            CANCELLED: (address_of("key-2"), "cancelled", 100, ""),
            UNANSWERED: (address_of("key-3"), "ready_to_ship", 100, ""),
        },
        moves=[(SHIPPED, "placed"), (SHIPPED, "confirmed"), (CANCELLED, "cancelled")],
        events=dict.fromkeys(emitted, 1),
        refunds={REFUND: (SHIPPED, 30)},
        reservations={SHIPPED: "issued", CANCELLED: "released", UNANSWERED: "reserved"},
        lines={order: {"TEA": 2} for order in addresses},
        received={"TEA": 10},
        shelf={"TEA": (8, 2)},
        ledger={"TEA": (8, 2)},
        charges={
            SHIPPED: charges(authorizations=[100], captures=[100], refunds=[30]),
            CANCELLED: charges(authorizations=[100], voids=[100]),
            UNANSWERED: charges(authorizations=[100], captures=[100]),
        },
        emails={message_id: (to, True) for message_id, to in mails},
        taken=[*mails, mails[0]],  # one arrived again, under its Message-ID
        changes={THING: 3},
        effects=effects,
        poison=1,
        dead_poison=1,
        is_ordered=True,
    )


def lose_an_order(facts: Facts) -> None:
    del facts.orders[SHIPPED]
    facts.charges.pop(SHIPPED)


def place_twice(facts: Facts) -> None:
    facts.orders["e5"] = facts.orders[CANCELLED]
    facts.events["orders.OrderPlaced", "e5"] = 1


def place_the_unanswered_twice(facts: Facts) -> None:
    facts.orders["e5"] = facts.orders[UNANSWERED]


def place_what_nobody_asked_for(facts: Facts) -> None:
    facts.orders["e5"] = (address_of("key-9"), "cancelled", 100, "")


def forget_a_cancellation(facts: Facts) -> None:
    facts.orders[CANCELLED] = (address_of("key-2"), "ready_to_ship", 100, "")


def ship_another_parcel(facts: Facts) -> None:
    facts.orders[SHIPPED] = (address_of("key-1"), "shipped", 100, "5678")


def get_stuck(facts: Facts) -> None:
    facts.orders[UNANSWERED] = (address_of("key-3"), "confirmed", 100, "")


def owe_something(facts: Facts) -> None:
    facts.unsettled.append("inventory.reserve_stock orders.OrderPlaced a1 dead")


def survive_the_poison(facts: Facts) -> None:
    facts.dead_poison = 0


def move_twice(facts: Facts) -> None:
    facts.moves.append((SHIPPED, "confirmed"))


def tell_twice(facts: Facts) -> None:
    facts.events["orders.OrderReadyToShip", SHIPPED] = 2


def lose_an_effect(facts: Facts) -> None:
    facts.effects.remove(("record", THING, 2))


def act_twice(facts: Facts) -> None:
    facts.effects.append(("call_outside", THING, 2))


def act_without_an_event(facts: Facts) -> None:
    facts.effects.append(("record", THING, 4))


def swap_two_of_a_key(facts: Facts) -> None:
    one, two = facts.effects.index(("follow", THING, 1)), facts.effects.index(("follow", THING, 2))
    facts.effects[one], facts.effects[two] = facts.effects[two], facts.effects[one]


def charge_twice(facts: Facts) -> None:
    facts.charges[SHIPPED]["authorizations"].append(100)


def capture_twice(facts: Facts) -> None:
    facts.charges[SHIPPED]["captures"].append(100)


def charge_for_no_order(facts: Facts) -> None:
    facts.charges["e5"] = charges(authorizations=[100])


def take_nothing(facts: Facts) -> None:
    facts.charges[UNANSWERED]["captures"].clear()


def take_too_much(facts: Facts) -> None:
    facts.charges[UNANSWERED]["captures"] = [101]


def keep_the_money_held(facts: Facts) -> None:
    facts.charges[CANCELLED]["voids"].clear()


def keep_the_money_taken(facts: Facts) -> None:
    facts.charges[CANCELLED] = charges(authorizations=[100], captures=[100])


def refund_nothing(facts: Facts) -> None:
    facts.charges[SHIPPED]["refunds"].clear()


def refund_twice(facts: Facts) -> None:
    facts.charges[SHIPPED]["refunds"].append(30)


def lose_a_refund(facts: Facts) -> None:
    facts.refunds.clear()
    facts.charges[SHIPPED]["refunds"].clear()


def ask_for_a_refund_twice(facts: Facts) -> None:
    facts.refunds["e5"] = (SHIPPED, 30)
    facts.charges[SHIPPED]["refunds"].append(30)


def lose_an_email(facts: Facts) -> None:
    facts.taken = facts.taken[1:-1]


def write_twice(facts: Facts) -> None:
    facts.taken.append(("<another>", address_of("key-1")))


def issue_what_was_cancelled(facts: Facts) -> None:
    facts.reservations[CANCELLED] = "reserved"


def miscount(facts: Facts) -> None:
    facts.shelf["TEA"] = (8, 1)


def lose_a_line_of_the_ledger(facts: Facts) -> None:
    facts.ledger["TEA"] = (10, 2)


SABOTAGE: dict[Callable[[Facts], None], str] = {
    lose_an_order: "lost",
    place_twice: "duplicated",
    place_the_unanswered_twice: "duplicated",
    place_what_nobody_asked_for: "duplicated",
    forget_a_cancellation: "lost",
    ship_another_parcel: "lost",
    get_stuck: "lost",
    owe_something: "lost",
    survive_the_poison: "lost",
    move_twice: "duplicated",
    tell_twice: "duplicated",
    lose_an_effect: "lost",
    act_twice: "duplicated",
    act_without_an_event: "duplicated",
    swap_two_of_a_key: "out_of_order",
    charge_twice: "duplicated",
    capture_twice: "duplicated",
    charge_for_no_order: "duplicated",
    take_nothing: "lost",
    take_too_much: "unbalanced",
    keep_the_money_held: "lost",
    keep_the_money_taken: "unbalanced",
    refund_nothing: "lost",
    refund_twice: "duplicated",
    lose_a_refund: "lost",
    ask_for_a_refund_twice: "duplicated",
    lose_an_email: "lost",
    write_twice: "duplicated",
    issue_what_was_cancelled: "unbalanced",
    miscount: "unbalanced",
    lose_a_line_of_the_ledger: "unbalanced",
}


class TestTheChecker:
    def test_accepts_a_correct_history(self, calls: list[Call], facts: Facts):
        assert check(calls, facts) == []

    @pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda sabotage: sabotage.__name__)
    def test_finds_a_violation(
        self, sabotage: Callable[[Facts], None], calls: list[Call], facts: Facts
    ):
        sabotage(facts)

        assert SABOTAGE[sabotage] in {finding.kind for finding in check(calls, facts)}

    def test_finds_two_answers_to_one_key(self, calls: list[Call], facts: Facts):
        calls.append(replace(calls[1], order_id=CANCELLED))

        assert "duplicated" in {finding.kind for finding in check(calls, facts)}

    def test_finds_an_order_that_was_refused(self, calls: list[Call], facts: Facts):
        calls[3] = replace(calls[3], status=400, trouble="")

        assert "duplicated" in {finding.kind for finding in check(calls, facts)}

    def test_reports_a_run_without_an_event_of_the_command(self, facts: Facts):
        """The rules about its effects would compare nothing with nothing."""
        assert idle(facts) == []

        facts.changes, facts.effects = {THING: 0}, []

        assert idle(facts) == ["The command change_things has stored no event."]

    def test_requires_no_order_of_an_unordered_handler(self, calls: list[Call], facts: Facts):
        swap_two_of_a_key(facts)
        facts.is_ordered = False

        assert check(calls, facts) == []

"""`python -m tests.chaos --seconds 300 --seed 7`: run the whole shop under faults, then check it.

Customers order, cancel and are sent parcels and refunds over HTTP while a nemesis acts by a
schedule that the seed decides. Then everything is healed, what is owed is settled, and a checker
compares the answers to customers with the database, the bank's books and the mail server.
With --edges, sinks and sources run with their systems instead: `tests/chaos/edges/`. With --cluster
the shop runs on nine hosts, which are cut off and lost: `tests/chaos/hosts/`.
The last line is JSON. Exit 1, with the seed and the schedule, if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import brokers
from tests.chaos.checker import check, idle
from tests.chaos.customers import Client, Customer, Staff, Worker
from tests.chaos.facts import Facts, read_facts
from tests.chaos.faults import SHOP
from tests.chaos.history import History
from tests.chaos.nemesis import Nemesis
from tests.chaos.reconcile import reconcile
from tests.chaos.recovery import OLDEST_OWED, Recovery
from tests.chaos.schedule import Act, schedule
from tests.chaos.verdict import (
    OWED,
    Verdict,
    chosen_kinds,
    conclude,
    say,
    wait_until_settled,
)
from tests.chaos.whole_shop import WholeShop, whole_shop

CUSTOMERS = 3
STALL = 120.0  # seconds in which less is not owed; far more than is needed
POISON_IS_LEFT = """
SELECT count(*) FROM outbox_delivery d JOIN outbox_subscription s ON s.id = d.subscription_id
WHERE s.handler = 'proving.swallow' AND d.state NOT IN ('dead', 'done', 'discarded')
"""


@dataclass
class Outcome(Verdict):
    """The result of a run of the whole shop."""

    history: History = field(kw_only=True)
    facts: Facts = field(default_factory=Facts)
    books_balanced: bool = False

    @property
    def is_well(self) -> bool:
        return self.books_balanced and super().is_well


def main() -> int:
    options = _options()
    if options.edges:
        from tests.chaos.edges import run as edges  # only here: it needs all client libraries

        return edges.main(options)
    if options.cluster:
        from tests.chaos.hosts import run as hosts  # only here: it needs a network

        return hosts.main(options)
    kinds = chosen_kinds(SHOP, options)
    if kinds is None:
        return 2
    if options.broker == "none":
        needed = {*SHOP.groups["broker"], *SHOP.groups["messages"], "kill_beat", "second_beat"}
        kinds = {name: kind for name, kind in kinds.items() if name not in needed}
    acts = schedule(seed=options.seed, seconds=options.seconds, kinds=kinds)
    say(f"seed {options.seed}, {options.database}, {options.broker}, {len(acts)} faults:", *acts)
    folder = Path(tempfile.mkdtemp(prefix="shop-chaos-"))
    kind = {name: getattr(options, name) for name in ("database", "broker", "sabotage")}
    with whole_shop(folder, **kind) as shop:
        recovery = Recovery(shop.stack)
        outcome = run(shop, recovery, acts, options)
    say(*_about(shop, outcome), f"slowest recoveries: {', '.join(recovery.slowest())}")
    return conclude(
        outcome,
        options,
        acts,
        folder=folder,
        named=("database", "broker", "faults", "sabotage"),
        result=_result(options, shop, recovery, outcome),
    )


def run(
    shop: WholeShop, recovery: Recovery, acts: Sequence[Act], options: argparse.Namespace
) -> Outcome:
    """Run load and faults, stop the faults, then check."""
    outcome = Outcome(history=History(shop.folder / "history.jsonl"))
    shop.open()
    workers = _people(shop, outcome.history, options)
    nemesis = Nemesis(shop, recovery, acts, faults=SHOP)
    began = time.monotonic()
    for thread in (recovery, *workers):
        thread.start()
    nemesis.run()
    time.sleep(max(0.0, options.seconds - (time.monotonic() - began)))
    _send_home(shop, workers)
    outcome.troubles += nemesis.troubles + _drain(shop)
    recovery.stop()
    outcome.facts = read_facts(shop)
    outcome.findings = check(outcome.history.calls, outcome.facts)
    outcome.troubles += idle(outcome.facts)
    balanced, trouble = reconcile(shop.stack)
    outcome.troubles += trouble
    outcome.books_balanced = balanced and not any(f.kind == "unbalanced" for f in outcome.findings)
    return outcome


def _people(shop: WholeShop, history: History, options: argparse.Namespace) -> list[Worker]:
    def client(user: str, seed: str) -> Client:
        return Client(shop.url, tokens[user], history, seed=f"{options.seed} {seed}")

    tokens = {user: shop.token(user) for user in ("alice", "hanako", "admin")}
    customers = [
        Customer(client(("alice", "hanako")[n % 2], f"customer {n}"), rate=options.rate / CUSTOMERS)
        for n in range(CUSTOMERS)
    ]
    return [*customers, Staff(client("admin", "staff"), rate=options.rate)]


def _send_home(shop: WholeShop, workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.over.set()
    for worker in workers:
        worker.join(60)
    shop.hold_down("changer")


def _drain(shop: WholeShop) -> list[str]:
    """Wait until the backlog no longer changes. Report it if it does not shrink."""

    def is_still() -> bool:
        moving = shop.stack.value(OLDEST_OWED) is not None
        return not moving and not shop.stack.value(POISON_IS_LEFT)

    return wait_until_settled(lambda: int(shop.stack.value(OWED)), is_still, stall=STALL)


def _about(shop: WholeShop, outcome: Outcome) -> list[str]:
    facts, calls = outcome.facts, outcome.history.calls
    repeats = len(facts.taken) - len({id for id, _to in facts.taken})
    ends = Counter(status for _address, status, _total, _number in facts.orders.values())
    return [
        f"{len(calls)} requests, {sum(call.is_ambiguous for call in calls)} without an answer",
        f"{len(facts.orders)} orders: {dict(ends)}; {sum(facts.changes.values())} other events",
        f"at the edges: {repeats} of {len(facts.taken)} e-mails arrived again under one Message-ID,"
        f" {facts.bank_requests - facts.bank_keys} of {facts.bank_requests} requests to the bank"
        " came again under one key",
        *([] if facts.is_ordered else ["order per key: not asked for"]),
        *(f"without a fault: {text}" for text in shop.surprises),
    ]


def _result(
    options: argparse.Namespace, shop: WholeShop, recovery: Recovery, outcome: Outcome
) -> dict[str, Any]:
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "orders": len(outcome.facts.orders),
        "kills": shop.kills,
        "flushes": shop.flushes,
        "restarts": shop.restarts,
        **outcome.counts(),
        "books_balanced": outcome.books_balanced,
        "p99_recovery_s": recovery.p99(),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("chaos", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--seconds", type=float, default=60, help="duration (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides the schedule (%(default)s)")
    parser.add_argument("--rate", type=float, default=3, help="orders a second (%(default)s)")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--broker", choices=brokers.OF_CHAOS, default=brokers.name_under_test())
    parser.add_argument(
        "--faults", default="", help=f"names or groups with commas: {', '.join(SHOP.groups)}"
    )
    parser.add_argument("--sabotage", default="", help="a defect that the checker has to find")
    parser.add_argument(
        "--edges", action="store_true", help="sinks and sources with their systems, not the shop"
    )
    parser.add_argument(
        "--cluster", action="store_true", help="the shop on nine hosts (needs root and iproute2)"
    )
    parser.add_argument(
        "--patroni", action="store_true", help="with --cluster: Patroni fails over (needs etcd)"
    )
    parser.add_argument(
        "--apart", action="store_true", help="with --cluster: each fault after the last recovery"
    )
    parser.add_argument("--systems", default="", help="with --edges: names with commas; all")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    options = parser.parse_args()
    if options.patroni and not options.cluster:
        parser.error("--patroni needs --cluster.")
    return options


if __name__ == "__main__":
    sys.exit(main())

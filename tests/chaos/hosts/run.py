"""A run on several hosts: load and faults, then the comparison of all answers with the database."""

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

from tests.chaos.checker import idle
from tests.chaos.customers import Customer, Staff, Worker
from tests.chaos.facts import Facts, read_facts
from tests.chaos.history import History
from tests.chaos.hosts import clocks
from tests.chaos.hosts.customers import RoamingClient
from tests.chaos.hosts.faults import HOSTS, usable
from tests.chaos.hosts.loss import check, orders_of, unseen
from tests.chaos.hosts.patroni import PatroniDatabases
from tests.chaos.hosts.patroni_faults import PATRONI
from tests.chaos.hosts.world import CEILING, HostsWorld, hosts_world
from tests.chaos.nemesis import Nemesis
from tests.chaos.reconcile import reconcile
from tests.chaos.recovery import OLDEST_OWED
from tests.chaos.schedule import Act, schedule
from tests.chaos.verdict import (
    OWED,
    Verdict,
    chosen_kinds,
    conclude,
    say,
    wait_until_settled,
)
from tests.cluster.network import NoNetwork
from tests.cluster.patroni_programs import NoPatroni

CUSTOMERS = 4
STALL = 180.0  # seconds in which less is not owed; far more than is needed


@dataclass
class Outcome(Verdict):
    """The result of a run on several hosts."""

    history: History = field(kw_only=True)
    facts: Facts = field(default_factory=Facts)
    books_balanced: bool = False

    @property
    def is_well(self) -> bool:
        return self.books_balanced and super().is_well


def main(options: argparse.Namespace) -> int:
    """Run with the options of `python -m tests.chaos --cluster`; return the exit code."""
    options.database = "postgresql"
    if options.broker == "none":
        print("--cluster needs a broker: valkey or rabbitmq.", file=sys.stderr)
        return 2
    faults = PATRONI if options.patroni else HOSTS
    kinds = chosen_kinds(faults, options)
    if kinds is None:
        return 2
    if clocks.library() is None:
        say(clocks.MISSING)
    kinds = {name: kind for name, kind in kinds.items() if usable(name)}
    acts = schedule(seed=options.seed, seconds=options.seconds, kinds=kinds)
    say(f"seed {options.seed}, {options.broker}, {len(acts)} faults:", *acts)
    folder = Path(tempfile.mkdtemp(prefix="shop-hosts-"))
    kind = {name: getattr(options, name) for name in ("broker", "sabotage", "patroni")}
    try:
        with hosts_world(folder, **kind) as world:
            outcome = run(world, acts, options)
    except (NoNetwork, NoPatroni, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    say(*_about(world, outcome))
    return conclude(
        outcome,
        options,
        acts,
        folder=folder,
        named=("patroni", "broker", "faults", "sabotage", "apart"),
        result=_result(options, world, outcome),
    )


def run(world: HostsWorld, acts: Sequence[Act], options: argparse.Namespace) -> Outcome:
    """Run load and faults, stop the faults, settle everything, then check."""
    outcome = Outcome(history=History(world.folder / "history.jsonl"))
    world.open()
    workers = _people(world, outcome.history, options)
    nemesis = Nemesis(world, world.timing, acts, faults=PATRONI if options.patroni else HOSTS)
    began = time.monotonic()
    for thread in (world.timing, *workers):
        thread.start()
    nemesis.run_apart(world.timing.has_recovered) if options.apart else nemesis.run()
    time.sleep(max(0.0, options.seconds - (time.monotonic() - began)))
    _send_home(world, workers)
    outcome.troubles += nemesis.troubles + _drain(world)
    world.timing.stop()
    world.timing.conclude(outcome.history.calls)
    outcome.facts = read_facts(world)
    outcome.findings = check(outcome.history.calls, outcome.facts, world.databases.losses)
    outcome.troubles += idle(outcome.facts)
    if not outcome.findings:
        outcome.troubles += unseen(outcome.history.calls, outcome.facts, world.databases.losses)
    balanced, trouble = reconcile(
        world.stack, ceiling=CEILING, excused=orders_of(world.databases.losses)
    )
    outcome.troubles += [*trouble, *world.surprises]
    outcome.books_balanced = balanced and not any(f.kind == "unbalanced" for f in outcome.findings)
    return outcome


def _people(world: HostsWorld, history: History, options: argparse.Namespace) -> list[Worker]:
    def client(user: str, seed: str, first: int = 0) -> RoamingClient:
        seed = f"{options.seed} {seed}"
        return RoamingClient(world.urls, tokens[user], history, seed=seed, first=first)

    tokens = {user: world.token(user) for user in ("alice", "hanako", "admin")}
    customers = [
        Customer(
            client(("alice", "hanako")[n % 2], f"customer {n}", n % 2),
            rate=options.rate / CUSTOMERS,
        )
        for n in range(CUSTOMERS)
    ]
    return [*customers, Staff(client("admin", "staff"), rate=options.rate)]


def _send_home(world: HostsWorld, workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.over.set()
    for worker in workers:
        worker.join(120)
    world.stack.kill("changer")


def _drain(world: HostsWorld) -> list[str]:
    """Wait until all is settled. Report it if the backlog does not shrink."""
    return wait_until_settled(
        lambda: int(world.value(OWED)), lambda: world.value(OLDEST_OWED) is None, stall=STALL
    )


def _about(world: HostsWorld, outcome: Outcome) -> list[str]:
    facts, calls = outcome.facts, outcome.history.calls
    ends = Counter(status for _address, status, _total, _number in facts.orders.values())
    losses = [len(loss.orders) for loss in world.databases.losses]
    promotions = [round(seconds, 1) for seconds in world.databases.promotions]
    overlaps = pair.overlaps if isinstance(pair := world.databases, PatroniDatabases) else 0
    return [
        f"{len(calls)} requests, {sum(call.is_ambiguous for call in calls)} without an answer",
        f"{len(facts.orders)} orders: {dict(ends)}; {sum(facts.changes.values())} other events",
        f"orders and things that each asynchronous failover concerned: {losses}",
        f"seconds until a standby accepted writes: {promotions}",
        *([f"promotions while the lost primary took writes: {overlaps}"] if overlaps else []),
        *world.timing.lines(),
    ]


def _result(options: argparse.Namespace, world: HostsWorld, outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "orders": len(outcome.facts.orders),
        "faults": len(world.timing.marks),
        "hosts_killed": world.kills,
        "failovers": len(world.databases.promotions),
        "restarts": len(world.surprises),
        **outcome.counts(),
        "books_balanced": outcome.books_balanced,
        "recovery_s": world.timing.by_fault(),
    }

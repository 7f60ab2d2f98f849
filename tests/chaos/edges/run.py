"""A run at the edges: load and faults, then the comparison of all systems with the database."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.edges.checker import check, idle
from tests.chaos.edges.facts import Facts, read_facts
from tests.chaos.edges.faults import EDGES, GAPS, repaired
from tests.chaos.edges.modes import Mode
from tests.chaos.edges.sending import Sender, Sent
from tests.chaos.edges.world import EdgeWorld, edge_world
from tests.chaos.nemesis import Nemesis
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

STALL = 60.0  # seconds in which less is not owed; far more than is needed
STORED_IDS = "SELECT external_id FROM outbox_received"


@dataclass
class Outcome(Verdict):
    """The result of a run at the edges."""

    facts: Facts = field(default_factory=Facts)


def main(options: argparse.Namespace) -> int:
    """Run with the options of `python -m tests.chaos --edges`; return the exit code."""
    kinds = chosen_kinds(EDGES, options)
    if kinds is None:
        return 2
    folder = Path(tempfile.mkdtemp(prefix="shop-edges-"))
    wanted = options.systems.split(",") if options.systems else []
    kinds = {name: kind for name, kind in kinds.items() if _concerns(name, wanted)}
    acts = schedule(seed=options.seed, seconds=options.seconds, kinds=kinds, gaps=GAPS)
    say(f"seed {options.seed}, {options.database}, {len(acts)} faults:", *acts)
    kind = {name: getattr(options, name) for name in ("database", "rate", "sabotage")}
    with edge_world(folder, wanted=wanted, **kind) as world:
        recovery = Recovery(world.stack)
        outcome = run(world, recovery, acts, options)
    say(*_about(world, outcome), f"slowest recoveries: {', '.join(recovery.slowest())}")
    if not outcome.is_well:
        _record_events(outcome.facts, folder)
    return conclude(
        outcome,
        options,
        acts,
        folder=folder,
        named=("database", "systems", "faults", "sabotage"),
        result=_result(options, world, recovery, outcome),
    )


def run(
    world: EdgeWorld, recovery: Recovery, acts: Sequence[Act], options: argparse.Namespace
) -> Outcome:
    """Run load and faults, stop the faults, settle everything, then check."""
    outcome = Outcome()
    world.open()
    senders = [
        Sender(source, system.send, rate=options.rate / 2, seed=options.seed)
        for system in world.systems
        for source in system.sources
    ]
    nemesis = Nemesis(world, recovery, acts, faults=EDGES)
    began = time.monotonic()
    for thread in (recovery, *senders):
        thread.start()
    nemesis.run()
    time.sleep(max(0.0, options.seconds - (time.monotonic() - began)))
    for system in world.systems:
        repaired(lambda stand=system.stand: stand.put(Mode.PASS))
    _stop_load(world, senders)
    sent = [one for sender in senders for one in sender.sent]
    outcome.troubles += nemesis.troubles + _settle(world, sent)
    recovery.stop()
    world.close()
    outcome.facts = read_facts(world, sent)
    outcome.findings = check(outcome.facts)
    sources = [source for system in world.systems for source in system.sources]
    outcome.troubles += idle(outcome.facts, sources)
    return outcome


def _concerns(fault: str, systems: Sequence[str]) -> bool:
    """Return whether a fault is of no system, or of one that takes part."""
    names = {"kafka", "aws", "nats", "amqp", "redis", "http"}
    system = fault.rpartition("_")[2]
    return not systems or system not in names or system in systems


def _stop_load(world: EdgeWorld, senders: Sequence[Sender]) -> None:
    world.hold_down("emitter")
    for sender in senders:
        sender.over.set()
    for sender in senders:
        sender.join(60)


def _settle(world: EdgeWorld, sent: Sequence[Sent]) -> list[str]:
    """Wait until messages are stored and deliveries settled. Report it if that does not advance."""

    def missing() -> int:
        return _not_received(world, sent) + int(world.stack.value(OWED))

    def is_still() -> bool:
        return missing() == 0 and world.stack.value(OLDEST_OWED) is None

    return wait_until_settled(missing, is_still, stall=STALL)


def _not_received(world: EdgeWorld, sent: Sequence[Sent]) -> int:
    """Return the number of accepted messages with a readable id that are not stored."""
    stored = {" ".join(id.split(" ")[:2]) for (id,) in world.stack.query(STORED_IDS)}
    due = {f"/port {one.id}" for one in sent if one.is_accepted and one.kind != "broken"}
    return len(due - stored)


def _about(world: EdgeWorld, outcome: Outcome) -> list[str]:
    facts = outcome.facts
    return [
        f"{len(facts.published)} events for each sink, {len(facts.dead)} dead letters",
        *(
            f"{sink}: {len(set(ids))} events, {len(ids) - len(set(ids))} arrived again"
            for sink, ids in _ids(facts).items()
        ),
        *_about_sources(facts),
        *(f"without a fault: {text}" for text in world.surprises),
    ]


def _ids(facts: Facts) -> dict[str, list[str]]:
    """Return the ids of what each sink has published, repetitions included."""
    return {
        sink: [one.id for sequence in sequences for one in sequence]
        for sink, sequences in facts.arrivals.items()
    }


def _about_sources(facts: Facts) -> list[str]:
    lines = []
    for source in dict.fromkeys(one.source for one in facts.sent):
        mine = [one for one in facts.sent if one.source == source]
        kinds = Counter(one.kind for one in mine)
        lines.append(
            f"{source}: {dict(kinds)} messages, sent {sum(one.tries for one in mine)} times"
        )
    return lines


def _record_events(facts: Facts, folder: Path) -> None:
    lines = (f"{event.name} {event.id} {json.dumps(event.fields)}" for event in facts.events)
    (folder / "events.txt").write_text("\n".join(lines))  # their ids have the time


def _result(
    options: argparse.Namespace, world: EdgeWorld, recovery: Recovery, outcome: Outcome
) -> dict[str, Any]:
    facts = outcome.facts
    return {
        "seed": options.seed,
        "seconds": options.seconds,
        "systems": [system.name for system in world.systems],
        "events": len(facts.published),
        "arrivals": sum(map(len, _ids(facts).values())),
        "repeats": sum(len(ids) - len(set(ids)) for ids in _ids(facts).values()),
        "messages": len(facts.sent),
        "kills": world.kills,
        "freezes": world.freezes,
        "restarts": world.restarts,
        **outcome.counts(),
        "p99_recovery_s": recovery.p99(),
    }

"""Relay: a backlog that appears at once, until the broker has all of it; nobody consumes.

Every relay is started beforehand and waits. How fast messages arrive is seen at the broker, in the
same way for all: by the length of its queue.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, require_effects
from benchmarks.peers import CELERY_OUTBOX
from benchmarks.row import Row
from benchmarks.sides import Side, ours

RELAYS = (1, 2)

#: Seconds.
LOOK = 0.005
QUIET = 0.7
STANDSTILL = 300.0  # the backlog is stored meanwhile


def measure(ground: Ground, quick: bool) -> Result:
    """Relay a backlog by one and by two relays, by the raw loop, and by the best peer."""
    return compare(
        ground,
        events=5_000 if quick else 20_000,
        peers_events=1_000 if quick else 3_000,
        repeats=1 if quick else 5,
    )


def compare(ground: Ground, *, events: int, peers_events: int, repeats: int) -> Result:
    """Return events a second for each, in turn."""
    # As much as there is, since nobody consumes; in messages as they are at first.
    wide = 10_000_000
    mine = ours(WINDOW=wide, FIRST_WINDOW=wide, BATCH=50)
    peer = CELERY_OUTBOX.side()
    relayed = partial(_relayed, ground)
    measures: dict[str, Callable[[], float]] = {
        "raw loop": partial(relayed, mine, events, _start_raw, queue="raw")
    }
    for n in RELAYS:
        start = partial(_start_ours, relays=n)
        measures[f"outbox, {n}"] = partial(relayed, mine, events, start, queue="ours")
        start = partial(_start_peers, relays=n)
        measures[f"peer, {n}"] = partial(relayed, peer, peers_events, start, queue="celery")
    found = in_turn(measures, repeats=repeats)
    against_peer = [(found[f"outbox, {n}"], found[f"peer, {n}"]) for n in RELAYS]
    return Result(
        [Figure(name, values, "events/s") for name, values in found.items()],
        [
            Ratio.of("relay_vs_raw", found["outbox, 1"], found["raw loop"], at_least=0.30),
            Ratio.worst_of("relay_vs_best_peer", against_peer, at_least=9),
        ],
        [
            f"The peer is {CELERY_OUTBOX.name}, which looks every 0.05 s and sends no metrics. "
            "The number is that of relays; the ratio is the worse one of both."
        ],
    )


def _relayed(
    ground: Ground, side: Side, events: int, start: Callable[[Stage], None], *, queue: str
) -> float:
    with ground.stage(side) as stage:
        start(stage)
        stage.start_module("emit", "benchmarks.project.emit", str(events), *BACKLOG)
        return _watch(side, stage.redis_url, queue, events)


#: One transaction, so that the whole backlog appears with its commit.
BACKLOG = ("--batch", "10000000", "--events-only")


def _start_ours(stage: Stage, *, relays: int) -> None:
    for number in range(relays):
        stage.start_relay(f"relay-{number}")


def _start_raw(stage: Stage) -> None:
    stage.start_module("raw", "benchmarks.project.ours.raw_relay")


def _start_peers(stage: Stage, *, relays: int) -> None:
    for number in range(relays):
        stage.start_command(f"relay-{number}", *CELERY_OUTBOX.plan.commands[0])


def _watch(side: Side, url: str, queue: str, events: int) -> float:
    """Return events a second between the first sight of the queue and its last growth."""
    with redis.Redis.from_url(url) as broker:
        seen = _growth(broker, queue, events)
        messages: Any = broker.lrange(queue, 0, -1)
    found = [one for message in messages for one in _events_in(message)]
    require_effects(
        expected=events, effects=len(found), distinct=len(set(found)), who=f"{side.name}, relayed"
    )
    if len(seen) < 2:
        raise RuntimeError(f"{side.name}: all {events} events were there at once: too few.")
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / last * events / (ended - began)


def _growth(broker: redis.Redis, queue: str, events: int) -> list[tuple[float, int]]:
    """Return (time, length) for each time that the queue was seen to have grown."""
    seen, changed = [(0.0, 0)], time.monotonic()
    while time.monotonic() - changed < STANDSTILL:
        length: Any = broker.llen(queue)
        if length > seen[-1][1]:
            changed = time.monotonic()
            seen.append((changed, length))
        elif time.monotonic() - changed > QUIET and _number(broker, queue) >= events:
            break
        time.sleep(LOOK)
    return seen[1:]


def _number(broker: redis.Redis, queue: str) -> int:
    messages: Any = broker.lrange(queue, 0, -1)
    return sum(len(_events_in(message)) for message in messages)


def _events_in(message: bytes) -> list[Any]:
    parsed = json.loads(message)
    if "pairs" in parsed:  # the raw loop's
        return [pair[0] for pair in parsed["pairs"]]
    arguments = json.loads(base64.b64decode(parsed["body"]))[0]
    if parsed["headers"]["task"] == "outbox.deliver":
        return [pair[0] for pair in arguments[1]]
    return [arguments[0]["order_id"]]


ROW = Row(
    "relay",
    "events fanned out to one handler and sent, by 1 and 2 relays",
    "at least 0.30 of a raw loop with the same writes and pushes, and 9 times the best peer",
    measure,
)

"""The runs that are profiled: a drain, two streams of orders, and the web side of orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.customers import throughput
from benchmarks.ground import Ground, Stage
from benchmarks.machine import tree_seconds
from benchmarks.rows.post import CUSTOMERS, SHOP, start_web
from benchmarks.sides import Side, local, ours

from .sampling import Stacks, sampled


@dataclass(frozen=True)
class Profile:
    """The result of a run.

    Attributes:
        events: number of events, or of orders of the web side.
        stacks: samples of the Python processes.
        microseconds: processor time per event by process.
    """

    events: int
    stacks: Stacks
    microseconds: dict[str, float]


def drain(ground: Ground, events: int = 40_000) -> Profile:
    """Handle a backlog with a relay and two worker processes."""
    with ground.stage(ours()) as stage:
        stage.emit(events, "--batch", "500", "--events-only")
        ground.settle()
        return _consumers(stage, events, lambda: stage.wait_for_effects(events))


def stream(ground: Ground, orders: int = 400) -> Profile:
    """Place 20 orders per second, and handle each at once."""
    return _stream(ground, ours(), "worker", orders)


def stream_without_broker(ground: Ground, orders: int = 400) -> Profile:
    """Place 20 orders per second, and handle each at once in one process of `outbox work`."""
    return _stream(ground, local(processes=1), "command-0", orders)


def order(ground: Ground, orders: int = 1_500) -> Profile:
    """Place orders over HTTP; nothing consumes them."""
    with ground.stage(SHOP) as stage:
        stage.run("-m", "shop.up.setup")
        token = json.loads((stage.folder / "credentials.json").read_text())["alice"]["token"]
        port = start_web(stage, "web")
        throughput(100, customers=CUSTOMERS, token=token, port=port)
        with _measured(stage, "web", orders) as found:
            throughput(orders, customers=CUSTOMERS, token=token, port=port)
        return found[0]


SCENES: dict[str, Callable[[Ground], Profile]] = {
    "drain": drain,
    "stream": stream,
    "stream_without_broker": stream_without_broker,
    "order": order,
}


def _stream(ground: Ground, side: Side, process: str, orders: int) -> Profile:
    with ground.stage(side) as stage:

        def place() -> None:
            stage.emit(orders, "--per-second", "20")
            stage.wait_for_effects(orders)

        return _consumers(stage, orders, place, process=process)


def _consumers(
    stage: Stage, events: int, run: Callable[[], object], *, process: str = "worker"
) -> Profile:
    stage.start_consumers()
    with _measured(stage, process, events) as found:
        run()
    return found[0]


@contextmanager
def _measured(stage: Stage, name: str, events: int) -> Iterator[list[Profile]]:
    """Profile a process of the stage during the block; the list then has the profile."""
    pid = stage.pid(name)
    label = "web" if name == "web" else "worker"
    processes = {label: psutil.Process(pid), **_servers()}
    before = {one: tree_seconds(process) for one, process in processes.items()}
    found = list[Profile]()
    with sampled(pid) as stacks:
        yield found
        after = {one: tree_seconds(process) for one, process in processes.items()}
    spent = {one: (after[one] - before[one]) * 1e6 / events for one in processes}
    found.append(Profile(events, stacks, spent))


def _servers() -> dict[str, psutil.Process]:
    """Return PostgreSQL and the broker, which are children of this process."""
    names = {"postgres": "PostgreSQL", "valkey-server": "broker", "redis-server": "broker"}
    children = psutil.Process().children()
    return {names[one.name()]: one for one in children if one.name() in names}

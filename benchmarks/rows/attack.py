"""Attack: `POST /api/orders/` while other clients mean harm, beside the same on a quiet system."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from benchmarks.customers import place_steadily
from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile
from benchmarks.row import Row
from benchmarks.sides import Side
from shop.up.ports import free_port
from tests.chaos.stack import ROOT

SHOP = Side(
    "the shop",
    "shop",
    {
        "DJANGO_SETTINGS_MODULE": "benchmarks.project.slow_names",
        "API_RATE_USER": "1000000/min",
        "LOG_LEVEL": "ERROR",
        "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
    },
)
QUEUES = "inventory,payments,orders,webhooks,webhooks.http"
PER_SECOND = 10
THREADS = 4


def measure(ground: Ground, quick: bool) -> Result:
    """Let one customer order at a steady pace, with and without the attack."""
    orders, repeats, warm_ups = (60, 2, 0) if quick else (400, 5, 1)
    with ground.stage(SHOP) as stage:
        stage.run("-m", "shop.up.setup")
        known = json.loads((stage.folder / "credentials.json").read_text())
        port = _start(stage)
        order = partial(
            place_steadily,
            orders,
            per_second=PER_SECOND,
            port=port,
            token=known["alice"]["token"],
        )
        attacks: list[dict[str, int]] = []
        attack = partial(_attack, port, known["hanako"]["token"], attacks)
        sides = {
            "quiet": partial(_during, nullcontext, order),
            "attacked": partial(_during, attack, order),
        }
        found = in_turn(sides, repeats=repeats, warm_ups=warm_ups)
    return _result(found, attacks[warm_ups:])


def _start(stage: Stage) -> int:
    """Start a web process, a relay and two workers; return the web's port."""
    port = free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "shop.wsgi", "--workers", "1"]
    stage.start("web", [*gunicorn, "--threads", str(THREADS), "--bind", f"127.0.0.1:{port}"])
    stage.wait_until(lambda: "Listening at" in stage.log("web"), "the web process listens")
    stage.start_relay()
    stage.start_worker(queues=QUEUES, concurrency=4)
    return port


def _during(
    attack: Callable[[], AbstractContextManager[None]], order: Callable[[], list[float]]
) -> list[float]:
    with attack():
        return order()


@contextmanager
def _attack(port: int, token: str, attacks: list[dict[str, int]]) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.attackers", str(port), token]
    attackers = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert attackers.stdout
    try:
        if attackers.stdout.readline().strip() != "attacking":
            raise RuntimeError("The attackers did not start.")
        yield
    finally:
        said, _ = attackers.communicate()
        attacks.append(json.loads(said or "{}"))


def _result(found: dict[str, list[list[float]]], attacks: list[dict[str, int]]) -> Result:
    part = {
        (name, label): [percentile(run, label) for run in runs]
        for name, runs in found.items()
        for label in (50, 99)
    }
    figures = [Figure(f"p{label}, {name}", values, "ms") for (name, label), values in part.items()]
    done = {kind: sum(one.get(kind, 0) for one in attacks) for kind in attacks[0]}
    counts = ", ".join(f"{kind} {number}" for kind, number in sorted(done.items()))
    orders = sum(map(len, found["attacked"]))
    return Result(
        figures,
        [
            Ratio.of("attacked_p50", part["attacked", 50], part["quiet", 50], at_most=1.5),
            Ratio.of("attacked_p99", part["attacked", 99], part["quiet", 99], at_most=3),
        ],
        [
            f"{orders} orders under attack, {PER_SECOND} a second; each was accepted.",
            f"The attackers run on the same machine. Their requests: {counts}.",
        ],
    )


ROW = Row(
    "attack",
    "`POST /api/orders/` beside slow senders, slow receivers, slow names and large bodies",
    "p50 within 1.5 of a quiet run, p99 within 3; no order fails",
    measure,
)

"""Post: `POST /api/orders/` beside the same view without events, and while the broker is away."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from benchmarks.customers import place, throughput
from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile, ratio
from benchmarks.row import Row
from benchmarks.sides import Side
from benchmarks.sizes import rounds
from shop.up.ports import free_port

SHOP = Side("the shop", "shop", {"API_RATE_USER": "1000000/min", "LOG_LEVEL": "WARNING"})
SILENT = "benchmarks.project.silent.settings"
CUSTOMERS = 4

COUNT_ORDERS = "SELECT count(*) FROM orders_order"
COUNT_EVENTS = "SELECT count(*) FROM outbox_event"


def measure(ground: Ground, quick: bool) -> Result:
    """Let customers order over HTTP from one web process; nothing consumes meanwhile."""
    orders, repeats, warm_ups = (100, 3, 1) if quick else (400, 5, 1)
    with ground.stage(SHOP) as stage:
        stage.run("-m", "shop.up.setup")
        token = json.loads((stage.folder / "credentials.json").read_text())["alice"]["token"]
        port = start_web(stage, "web")
        order = partial(throughput, orders, customers=CUSTOMERS, token=token)
        sides = {
            "with events": partial(order, port=port),
            "without": partial(
                order, port=start_web(stage, "silent", DJANGO_SETTINGS_MODULE=SILENT)
            ),
        }
        rates = in_turn(sides, repeats=repeats, warm_ups=warm_ups)
        _require_events(stage, orders * (rounds(repeats) + warm_ups))
        stage.stop("silent")
        waits = _waits(stage, partial(place, orders, port=port, token=token), repeats=repeats)
    return _result(rates, waits)


def start_web(stage: Stage, name: str, **environment: str) -> int:
    """Start a web process as `make up` does; return its port."""
    port = free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "shop.wsgi"]
    options = ["--workers", "1", "--threads", str(CUSTOMERS)]
    stage.start(name, [*gunicorn, *options, "--bind", f"127.0.0.1:{port}"], **environment)
    stage.wait_until(lambda: "Listening at" in stage.log(name), f"{name} listens")
    return port


def _require_events(stage: Stage, orders: int) -> None:
    """Raise unless exactly half of the orders emitted an event."""
    stored, emitted = stage.value(COUNT_ORDERS), stage.value(COUNT_EVENTS)
    if (stored, emitted) != (2 * orders, orders):
        raise RuntimeError(f"{stored} orders, {emitted} events: {2 * orders}, {orders} expected.")


def _waits(
    stage: Stage, order: Callable[[], list[float]], *, repeats: int
) -> dict[str, list[float]]:
    """Return the 99th percentiles of a customer's wait, with the broker in each state."""
    states: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "there": nullcontext,
        "down": partial(_broker_down, stage),
        "frozen": partial(_broker_frozen, stage),
    }
    sides = {name: partial(_p99, order, state) for name, state in states.items()}
    return in_turn(sides, repeats=repeats, warm_ups=1)


def _p99(
    order: Callable[[], list[float]], state: Callable[[], AbstractContextManager[None]]
) -> float:
    with state():
        return percentile(order(), 99)


@contextmanager
def _broker_down(stage: Stage) -> Iterator[None]:
    stage.kill("broker")
    try:
        yield
    finally:
        stage.start_broker()


@contextmanager
def _broker_frozen(stage: Stage) -> Iterator[None]:
    stage.signal("broker", signal.SIGSTOP)
    try:
        yield
    finally:
        stage.signal("broker", signal.SIGCONT)


def _result(rates: dict[str, list[float]], waits: dict[str, list[float]]) -> Result:
    figures = [Figure(f"throughput {name}", values, "orders/s") for name, values in rates.items()]
    figures += [Figure(f"p99, broker {name}", values, "ms") for name, values in waits.items()]
    worst = max(ratio(waits[name], waits["there"]) for name in ("down", "frozen"))
    return Result(
        figures,
        [
            Ratio.of("post_vs_plain", rates["with events"], rates["without"], at_least=0.85),
            Ratio("post_p99_broker_down", worst, at_most=1.2),
        ],
        [f"Throughput: {CUSTOMERS} customers at once, {CUSTOMERS} threads; p99: one customer."],
    )


ROW = Row(
    "post",
    "`POST /api/orders/`, consumers stopped; and with the broker down or frozen",
    "throughput at least 0.85 of the same view without events; p99 within 1.2",
    measure,
)

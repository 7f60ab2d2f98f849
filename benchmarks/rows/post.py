"""Post: `POST /api/orders/` beside two other views, and while the broker is away.

One is the same view without events, the other a plain view that stores the same rows.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from benchmarks.customers import place, throughput
from benchmarks.ground import Ground, Stage
from benchmarks.harness import Figure, Ratio, Result, in_turn, percentile
from benchmarks.row import Row
from benchmarks.sides import Side
from shop.up.ports import free_port

SHOP = Side("the shop", "shop", {"API_RATE_USER": "1000000/min", "LOG_LEVEL": "WARNING"})
SILENT = "benchmarks.project.silent.settings"
BARE = "benchmarks.project.bare.settings"
CUSTOMERS = 4

#: The tables in which an order of the shop and one of the plain view store as many rows.
TABLES = (
    "orders_order",
    "orders_orderline",
    "orders_orderhistory",
    "api_storedanswer",
    "outbox_event",
)


def measure(ground: Ground, quick: bool) -> Result:
    """Let customers order over HTTP from one web process; nothing consumes meanwhile."""
    orders, repeats, warm_ups = (100, 3, 1) if quick else (400, 5, 1)
    with ground.stage(SHOP) as stage:
        stage.run("-m", "shop.up.setup")
        token = json.loads((stage.folder / "credentials.json").read_text())["alice"]["token"]
        port = start_web(stage, "web")
        order = partial(throughput, orders, customers=CUSTOMERS, token=token)
        silent = start_web(stage, "silent", DJANGO_SETTINGS_MODULE=SILENT)
        bare = start_web(stage, "bare", DJANGO_SETTINGS_MODULE=BARE)
        sides = {
            "with events": partial(_rows_of, stage, partial(order, port=port)),
            "without": partial(_rows_of, stage, partial(order, port=silent)),
            "plain view, same rows": partial(_rows_of, stage, partial(order, port=bare)),
        }
        found = in_turn(sides, repeats=repeats, warm_ups=warm_ups)
        _require_rows({name: stored for name, runs in found.items() for _, stored in runs})
        rates = {name: [rate for rate, _stored in runs] for name, runs in found.items()}
        stage.stop("silent")
        stage.stop("bare")
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


def _rows_of(stage: Stage, order: Callable[[], float]) -> tuple[float, dict[str, int]]:
    """Return the orders per second, and the number of rows that they stored, by table."""
    before = _counts(stage)
    rate = order()
    return rate, {name: number - before[name] for name, number in _counts(stage).items()}


def _counts(stage: Stage) -> dict[str, int]:
    return {name: int(stage.value(f"SELECT count(*) FROM {name}")) for name in TABLES}  # noqa: S608  ours


def _require_rows(stored: dict[str, dict[str, int]]) -> None:
    """Raise unless both views store the same rows, and the silent one all but the event."""
    expected = stored["with events"]
    silent = {**expected, "outbox_event": 0}
    if stored["plain view, same rows"] != expected or stored["without"] != silent:
        raise RuntimeError(f"The sides stored different rows: {stored}.")


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
    outages = [(waits[name], waits["there"]) for name in ("down", "frozen")]
    return Result(
        figures,
        [
            Ratio.of("post_vs_plain", rates["with events"], rates["without"], at_least=0.85),
            Ratio.of("post_vs_bare", rates["with events"], rates["plain view, same rows"]),
            Ratio.worst_of("post_p99_broker_down", outages, at_most=1.2),
        ],
        [f"Throughput: {CUSTOMERS} customers at once, {CUSTOMERS} threads; p99: one customer."],
    )


ROW = Row(
    "post",
    "`POST /api/orders/`, consumers stopped; and with the broker down or frozen",
    "throughput at least 0.85 of the same view without events; p99 within 1.2",
    measure,
)

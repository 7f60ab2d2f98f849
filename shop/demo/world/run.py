"""The run with a carrier: place orders, kill the carrier once, check each order's timeline."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from orders.models import Order
from outbox.models import Delivery, Event, Received, Settlement
from shop.demo import conditions, timeline
from shop.demo.bank import unsent_webhooks
from shop.demo.customers import PlacedOrder
from shop.demo.result import count_emails, reconcile
from shop.demo.scenarios import OrderSpec
from shop.demo.stack_run import StackRun
from shop.demo.world import kafka
from shop.demo.world.environment import CONSUMER, SINK, SOURCE
from shop.demo.world.events import ParcelBooked
from shop.demo.world.result import WorldResult, problem_of
from shop.up.files import read_json
from shop.up.probes import prints
from shop.up.processes import Program
from shop.up.programs import WORKERS
from shop.up.stack import Running

State = Settlement.State

SCRIPT = Path(__file__).with_name("carrier.py")
#: Seconds until the supervisor starts the killed carrier again: orders flow meanwhile.
PAUSE = 3.0
FIRST = (
    OrderSpec(customer="alice", lines={"TEA-SENCHA": 2}),
    OrderSpec(customer="hanako", lines={"WHISK-CHASEN": 1}),
    OrderSpec(customer="alice", lines={"BOWL-RAKU": 1, "TEA-SENCHA": 1}),
    OrderSpec(customer="hanako", lines={"BOWL-RAKU": 4}),
)
MEANWHILE = (
    OrderSpec(customer="alice", lines={"TEA-SENCHA": 30}),
    OrderSpec(customer="hanako", lines={"KETTLE-IRON": 1}),
    OrderSpec(customer="alice", lines={"WHISK-CHASEN": 2}),
    OrderSpec(customer="hanako", lines={"TEA-SENCHA": 3}),
)


def carrier(address: str) -> Program:
    """Return the carrier as a program. It is given no variable but the address of Kafka."""
    return Program(
        name="carrier",
        command=[sys.executable, str(SCRIPT)],
        environment={"KAFKA": address},
        ready=prints("Waiting for orders"),
        stage=WORKERS,
        pause=PAUSE,
    )


class WorldRun(StackRun):
    """One run of the demo with the carrier."""

    def __init__(self, *, address: str) -> None:
        super().__init__()
        self.result: WorldResult | None = None
        self._address = address
        self._placed: list[PlacedOrder] = []

    def _run(self, running: Running) -> None:
        report = running.console.info
        report(
            "Kafka and a carrier run beside the shop. The carrier is one script without Django: "
            f"{SCRIPT.relative_to(settings.BASE_DIR)}."
        )
        report(
            "Four orders. The carrier reports each event as settled. When an order is ready to "
            "ship, it also books a parcel and answers."
        )
        self._place(FIRST, running)
        self._kill_the_carrier(running)
        self._wait_for_the_parcels(running)
        self._write_timelines(running)
        self._evaluate(running)

    def _place(self, specs: Sequence[OrderSpec], running: Running) -> None:
        for spec in specs:
            self._placed.append(self.customer(spec.customer, running).place(spec))

    def _kill_the_carrier(self, running: Running) -> None:
        """Send SIGKILL once the first answer is stored, and place orders until it runs again."""
        supervisor, report = running.supervisor, running.console.info
        self.waiter.until(_answers, "the carrier did not answer; see demo.log with --keep")
        pid, killed_at = supervisor.pid_of("carrier"), timezone.now()
        if pid is None:
            raise conditions.ConditionTimeout("The carrier is not running, so it cannot be killed.")
        os.killpg(pid, signal.SIGKILL)
        report(
            "BREAK: killed the carrier (SIGKILL) after its first answer. It starts again in "
            f"{PAUSE:g} s. Four more orders are placed now."
        )
        self._place(MEANWHILE, running)
        self.waiter.until(
            lambda: supervisor.pid_of("carrier") not in (None, pid), "the carrier did not restart"
        )
        published = Delivery.objects.filter(
            subscription__handler=f"sinks.{SINK}",
            state=Delivery.State.DONE,
            settled_at__gte=killed_at,
        ).count()
        report(
            f"The carrier runs again. {published} messages reached Kafka while it was dead. It "
            "reads them now, and again those whose offsets it had not committed. The shop drops "
            "repeated answers."
        )

    def _wait_for_the_parcels(self, running: Running) -> None:
        run_file, orders = read_json(running.data / "run.json"), self._placed
        self.waiter.until(
            lambda: _shipped(orders) == len(orders) or conditions.is_stuck(),
            "an order was not shipped; run the demo with --keep, and see demo.log",
        )
        self.waiter.until_settled(
            orders,
            has_unsent_webhooks=lambda: unsent_webhooks(run_file),
            report=running.console.info,
        )
        self.waiter.until(
            lambda: not _settlements(State.OPEN) and kafka.unread(self._address) == 0,
            "the shop did not read all messages; run the demo with --keep, and see demo.log",
            every=0.2,
        )

    def _write_timelines(self, running: Running) -> None:
        write = running.console.write
        for order in self._placed:
            write("\n" + "\n".join(timeline.lines_of(order)))
        write("")

    def _evaluate(self, running: Running) -> None:
        for line in conditions.explanations():
            running.console.error(line)
        running.console.info("Reading the timelines from the API, and reconciling ...")
        answers = _answers()
        self.result = WorldResult(
            orders=len(self._placed),
            shipped=_shipped(self._placed),
            answers=answers,
            repeated=kafka.messages(self._address) - _received(),
            settlements=_settlements(State.SETTLED),
            unreported=_settlements(State.OPEN, State.MISSING),
            emails=count_emails(running.data / "mail"),
            unsettled=conditions.unsettled(),
            books=reconcile(),
            problems=[found for one in self._placed if (found := self._problem(one, running))],
        )

    def _problem(self, order: PlacedOrder, running: Running) -> str:
        events = self.customer(order.spec.customer, running).timeline_of(order)
        return problem_of(order.reference, events)


def _answers() -> int:
    return Event.objects.filter(name=ParcelBooked.event_name).count()


def _received() -> int:
    """Return the number of messages that were no duplicates."""
    return Received.objects.filter(source=SOURCE).count()


def _settlements(*states: str) -> int:
    return Settlement.objects.filter(consumer=CONSUMER, state__in=states).count()


def _shipped(orders: Sequence[PlacedOrder]) -> int:
    ids = [order.id for order in orders]
    return Order.objects.filter(pk__in=ids, status=Order.Status.SHIPPED).count()

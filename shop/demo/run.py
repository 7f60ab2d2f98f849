"""The run of the demo: place orders, cause faults if requested, print the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from shop.demo import conditions, result, timeline
from shop.demo.bank import unsent_webhooks
from shop.demo.customers import Customer, PlacedOrder
from shop.demo.faults import Faults
from shop.demo.result import Result
from shop.demo.scenarios import (
    BANK,
    RACE,
    REFUSALS,
    SCENARIOS,
    SHIPPABLE,
    CancelTime,
    OrderSpec,
    Scenario,
)
from shop.demo.stack_run import StackRun
from shop.up.files import read_json
from shop.up.stack import Running


class DemoRun(StackRun):
    """One run of the demo. At its end `result` is set, or `trouble` if it was aborted."""

    def __init__(self, *, is_breaking: bool) -> None:
        super().__init__()
        self.result: Result | None = None
        self._is_breaking = is_breaking
        self._placed: list[tuple[Scenario, Sequence[PlacedOrder]]] = []

    def _run(self, running: Running) -> None:
        report, write = running.console.info, running.console.write
        faults = self._faults(running)
        for scenario in SCENARIOS:
            report(f"{scenario.title}.")
            self._placed.append((scenario, self._place(scenario, running)))
            for fault in faults.get(scenario.title, ()):
                fault()
        report("All orders are placed. Waiting until no delivery is owed ...")
        run_file = read_json(running.data / "run.json")
        self.waiter.until_settled(
            self._orders, has_unsent_webhooks=lambda: unsent_webhooks(run_file), report=report
        )
        self._write_timelines(write)
        self._evaluate(running)

    @property
    def _orders(self) -> list[PlacedOrder]:
        return [order for _, orders in self._placed for order in orders]

    # -- placing

    def _place(self, scenario: Scenario, running: Running) -> list[PlacedOrder]:
        def place(spec: OrderSpec) -> PlacedOrder:
            customer = self.customer(spec.customer, running)
            order = customer.place(spec)
            self._cancel_if_requested(customer, order)
            return order

        with ThreadPoolExecutor(len(scenario.specs) if scenario.race else 1) as customers:
            return list(customers.map(place, scenario.specs))

    def _cancel_if_requested(self, customer: Customer, order: PlacedOrder) -> None:
        """Cancel the order at the time of its spec, if any."""
        cancel_at = order.spec.cancel_at
        if cancel_at is None:
            return
        if cancel_at is CancelTime.DURING_AUTHORIZATION:
            self.waiter.until(
                lambda: conditions.is_bank_request_started(order.id),
                f"no request to the bank about {order.reference}",
            )
        elif cancel_at is CancelTime.AFTER_PAYMENT:
            self.waiter.until(
                lambda: customer.status_of(order) == SHIPPABLE,
                f"{order.reference} is not paid",
                every=0.25,  # over HTTP, where the API counts requests
            )
        customer.cancel(order)

    def _faults(self, running: Running) -> dict[str, tuple[Callable[[], None], ...]]:
        """Return the faults by the title of the scenario that they follow."""
        if not self._is_breaking:
            return {}
        faults = Faults(
            supervisor=running.supervisor,
            broker_url=read_json(running.data / "run.json")["REDIS_URL"],
            waiter=self.waiter,
            report=running.console.info,
        )
        return {
            BANK.title: (faults.kill_pool, faults.kill_worker),
            REFUSALS.title: (faults.wipe_broker,),
            RACE.title: (faults.stop_relay,),
        }

    # -- reporting

    def _write_timelines(self, write: Callable[[str], object]) -> None:
        for scenario, orders in self._placed:
            write(f"\n{scenario.title}\n{'-' * len(scenario.title)}")
            for order in orders:
                write("\n" + "\n".join(timeline.lines_of(order)))
        write("")

    def _evaluate(self, running: Running) -> None:
        for line in conditions.explanations():
            running.console.error(line)
        running.console.info("Reconciling ...")
        self.result = result.evaluate(
            self._placed, unsettled=conditions.unsettled(), mail=running.data / "mail"
        )
        if not self.result.books.balanced:
            running.console.error(self.result.books.report)

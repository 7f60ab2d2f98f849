"""The run of the demo: place orders, cause faults if requested, print the results.

It has its own thread, because the supervisor needs the main thread for signals.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

from django.db import connections

from shop.demo import story, verdict, watch
from shop.demo.bank import notices_owed
from shop.demo.customers import Customer, PlacedOrder, Rejected
from shop.demo.faults import Strikes
from shop.demo.scenarios import BANK, CHAPTERS, RACE, REFUSALS, SHIPPABLE, Change, Chapter, Wish
from shop.demo.verdict import Verdict
from shop.demo.watch import Interrupted, NeverHappened, Watch
from shop.up.credentials import Credentials
from shop.up.files import read_json
from shop.up.ports import HOST
from shop.up.stack import Running


class Play:
    """One run of the demo. At its end `verdict` is set, or `trouble` if it was aborted."""

    def __init__(self, *, is_breaking: bool) -> None:
        self.verdict: Verdict | None = None
        self.trouble = ""
        self._is_breaking = is_breaking
        self._watch = Watch()
        self._placed: list[tuple[Chapter, Sequence[PlacedOrder]]] = []

    def run(self, running: Running) -> None:
        """Run the demo on the stack while the supervisor runs."""
        thread = Thread(target=self._perform, args=[running], name="play")
        thread.start()
        try:
            running.supervisor.run(until=lambda: not thread.is_alive())
        finally:
            self._watch.stop()
            thread.join()

    def _perform(self, running: Running) -> None:
        try:
            self._play(running)
        except (NeverHappened, Rejected) as error:
            self.trouble = str(error)
        except Interrupted:
            pass
        except Exception:  # any error must stop the stack and be shown
            self.trouble = f"The demo itself failed: {traceback.format_exc()}"
        finally:
            connections.close_all()

    def _play(self, running: Running) -> None:
        say, tell = running.console.say, running.console.plain
        strikes = self._strikes(running)
        for chapter in CHAPTERS:
            say(f"{chapter.title}.")
            self._placed.append((chapter, self._place(chapter, running)))
            for strike in strikes.get(chapter.title, ()):
                strike()
        say("All orders are placed. Waiting until nothing is owed ...")
        run_file = read_json(running.data / "run.json")
        self._watch.until_settled(
            self._orders, has_more_to_come=lambda: notices_owed(run_file), tell=say
        )
        self._report_all(tell)
        self._reach_a_verdict(running)

    @property
    def _orders(self) -> list[PlacedOrder]:
        return [order for _, orders in self._placed for order in orders]

    # -- placing

    def _place(self, chapter: Chapter, running: Running) -> list[PlacedOrder]:
        def place(wish: Wish) -> PlacedOrder:
            customer = self._customer(wish.customer, running)
            order = customer.place(wish)
            self._cancel_if_wished(customer, order)
            return order

        with ThreadPoolExecutor(len(chapter.wishes) if chapter.race else 1) as buyers:
            return list(buyers.map(place, chapter.wishes))

    def _customer(self, name: str, running: Running) -> Customer:
        return Customer(
            f"http://{HOST}:{running.port}",
            Credentials(running.data).get(name, "token"),
            pause=self._watch.pause,
        )

    def _cancel_if_wished(self, customer: Customer, order: PlacedOrder) -> None:
        """Cancel the order at the time that the wish names, if any."""
        change = order.wish.change
        if change is None:
            return
        if change is Change.AT_THE_BANK:
            self._watch.until(
                lambda: watch.is_at_the_bank(order.id),
                f"the bank was asked about {order.reference}",
            )
        elif change is Change.PAID:
            self._watch.until(
                lambda: customer.status_of(order) == SHIPPABLE,
                f"{order.reference} was paid",
                every=0.25,  # over HTTP, where the API counts requests
            )
        customer.cancel(order)

    def _strikes(self, running: Running) -> dict[str, tuple[Callable[[], None], ...]]:
        """Return the faults, by the title of the chapter after whose orders they occur."""
        if not self._is_breaking:
            return {}
        strikes = Strikes(
            supervisor=running.supervisor,
            broker_url=read_json(running.data / "run.json")["REDIS_URL"],
            watch=self._watch,
            say=running.console.say,
        )
        return {
            BANK.title: (strikes.kill_pool, strikes.kill_worker),
            REFUSALS.title: (strikes.wipe_broker,),
            RACE.title: (strikes.stop_relay,),
        }

    # -- reporting

    def _report_all(self, tell: Callable[[str], object]) -> None:
        for chapter, orders in self._placed:
            tell(f"\n{chapter.title}\n{'-' * len(chapter.title)}")
            for order in orders:
                tell("\n" + "\n".join(story.tell(order)))
        tell("")

    def _reach_a_verdict(self, running: Running) -> None:
        for line in watch.explanations():
            running.console.complain(line)
        running.console.say("Reconciling the books ...")
        self.verdict = verdict.reach(
            self._placed, unsettled=watch.unsettled(), mail=running.data / "mail"
        )
        if not self.verdict.books.balanced:
            running.console.complain(self.verdict.books.report)

"""The picture of the README: place an order, kill the worker meanwhile, draw the timeline."""

from __future__ import annotations

import json
from pathlib import Path

from django.utils import timezone

from outbox import timeline_of
from shop.demo import animation, timeline
from shop.demo.bank import unsent_webhooks
from shop.demo.faults import BANK_QUEUE, Faults
from shop.demo.result import ReconcileResult, reconcile
from shop.demo.scenarios import OrderSpec
from shop.demo.stack_run import StackRun
from shop.up.files import read_json
from shop.up.stack import Running

#: The bank takes its time, so that the worker is killed while it waits for the answer.
ORDER = OrderSpec(customer="alice", lines={"TEA-SENCHA": 2}, pays_with="tok_slow")
#: Handlers that the picture leaves out: the order does not depend on them.
LEFT_OUT = ("webhooks.",)


class Drawn:
    """The result of the run: a file, if the reconciliation found no difference."""

    def __init__(self, path: Path, books: ReconcileResult) -> None:
        self._path = path
        self.trouble = "" if books.balanced else f"No picture was drawn. {books.report}"
        self.exit_code = 1 if self.trouble else 0

    def in_words(self, *, seconds: float) -> str:
        """Return the result for people."""
        return self.trouble or f"{self._path} was drawn from a run of {seconds:.0f} seconds."

    def line(self, *, seconds: float) -> str:
        """Return the result as JSON."""
        return json.dumps({"picture": str(self._path), "seconds": round(seconds, 1)})


class PictureRun(StackRun):
    """One run with one order, whose worker is killed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.result: Drawn | None = None
        self._path = path

    def _run(self, running: Running) -> None:
        run_file = read_json(running.data / "run.json")
        faults = Faults(
            supervisor=running.supervisor,
            broker_url=run_file["REDIS_URL"],
            waiter=self.waiter,
            report=running.console.info,
        )
        order = self.customer(ORDER.customer, running).place(ORDER)
        faults.kill_worker(queue=BANK_QUEUE)
        killed_at = timezone.now()
        self.waiter.until_settled(
            [order],
            has_unsent_webhooks=lambda: unsent_webhooks(run_file),
            report=running.console.info,
        )
        books = reconcile()
        if books.balanced:
            rows = animation.rows_of(timeline_of(key=str(order.id)), leave_out=LEFT_OUT)
            end = timeline.lines_of(order)[-1].partition("= ")[2]
            title = f"Order {order.reference}: the worker is killed while it calls the bank"
            text = animation.svg(rows, title=title, end=end, killed_at=killed_at)
            self._path.write_text(text)
        self.result = Drawn(self._path, books)

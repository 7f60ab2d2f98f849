"""A run on the stack, in its own thread: the supervisor needs the main thread for signals."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from threading import Thread
from typing import Protocol

from django.db import connections

from shop.demo.conditions import ConditionTimeout, Interrupted, Waiter
from shop.demo.customers import Customer, Rejected
from shop.up.credentials import Credentials
from shop.up.ports import HOST
from shop.up.stack import Running


class Outcome(Protocol):
    """The result of a run: the problem ("" if there is none), the exit code and the last lines."""

    @property
    def trouble(self) -> str: ...

    @property
    def exit_code(self) -> int: ...

    def in_words(self, *, seconds: float) -> str: ...

    def line(self, *, seconds: float) -> str: ...


class StackRun(ABC):
    """One run. At its end `result` is set, or `trouble` if it was aborted."""

    result: Outcome | None

    def __init__(self) -> None:
        self.trouble = ""
        self.waiter = Waiter()

    def run(self, running: Running) -> None:
        """Run on the stack while the supervisor runs."""
        thread = Thread(target=self._run_safely, args=[running], name="demo")
        thread.start()
        try:
            running.supervisor.run(until=lambda: not thread.is_alive())
        finally:
            self.waiter.stop()
            thread.join()

    def customer(self, name: str, running: Running) -> Customer:
        """Return a client of the API, with the customer's token."""
        return Customer(
            f"http://{HOST}:{running.port}",
            Credentials(running.data).get(name, "token"),
            pause=self.waiter.pause,
        )

    @abstractmethod
    def _run(self, running: Running) -> None:
        """Place orders, wait, print, and set `result`."""

    def _run_safely(self, running: Running) -> None:
        try:
            self._run(running)
        except (ConditionTimeout, Rejected) as error:
            self.trouble = str(error)
        except Interrupted:
            pass
        except Exception:  # any error must stop the stack and be shown
            self.trouble = f"Bug in the demo: {traceback.format_exc()}"
        finally:
            connections.close_all()

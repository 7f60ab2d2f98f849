"""The live view of the demo: the lines of the orders stay below the messages."""

from __future__ import annotations

import io
import re
import threading

import pytest

from outbox.testing import Outbox
from shop.demo import board
from shop.demo.live import LiveStream
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place
from tests.processes import eventually

HOUR = 3600.0


class Terminal(io.StringIO):
    """Applies the two control sequences that the live view uses."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.startswith("\x1b["):
            lines = int(text.removeprefix("\x1b[").partition("F")[0])
            kept = self.getvalue().splitlines(keepends=True)[:-lines]
            self.seek(0)
            self.truncate()
            super().write("".join(kept))
            return len(text)
        return super().write(text)


class TestLiveStream:
    def test_keeps_its_lines_below_the_messages(self):
        terminal, drawn = Terminal(), threading.Event()

        def frame(width: int, height: int) -> list[str]:
            drawn.set()
            return ["two orders", "nothing owed"]

        with LiveStream(terminal, frame, every=0.01) as live:
            live.write("Starting ...\n")
            eventually(lambda: "nothing owed" in terminal.getvalue(), "the lines are drawn")
            live.write("All is ready.\n")

        assert terminal.getvalue() == "Starting ...\nAll is ready.\ntwo orders\nnothing owed\n"

    def test_draws_the_last_state_at_its_end(self):
        terminal, state = Terminal(), ["placed"]

        with LiveStream(terminal, lambda *_: state, every=HOUR):
            state = ["shipped"]

        assert terminal.getvalue() == "shipped\n"

    def test_cuts_lines_to_the_width(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("COLUMNS", "10")
        terminal = Terminal()

        with LiveStream(terminal, lambda *_: ["x" * 30], every=HOUR):
            pass

        assert terminal.getvalue() == "x" * 9 + "\n"

    def test_writes_messages_only_without_a_terminal(self):
        stream = io.StringIO()

        with LiveStream(stream, lambda *_: ["two orders"], every=0.01) as live:
            live.write("Starting ...\n")

        assert stream.getvalue() == "Starting ...\n"


@pytest.mark.django_db
class TestTheBoard:
    @pytest.fixture(autouse=True)
    def open_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shop.demo.board.connection.close", lambda: None)  # its transaction

    def test_says_that_there_is_no_order(self):
        assert board.frame(80, 40)[-1] == "No order yet. Deliveries and events owed: 0."

    def test_shows_each_order_with_its_deliveries(self, outbox: Outbox):
        put_on_sale()
        order = place()
        outbox.deliver_all(only="inventory")

        _rule, line, summary = board.frame(120, 40)

        assert re.fullmatch(
            rf"{order.reference}  placed         #+\.+   \d of +\d+  (pending|sent) \w+\.\w+", line
        ), line
        assert re.fullmatch(r"1 order \(1 placed\)\. Deliveries and events owed: \d\.", summary)

    def test_fits_the_height_of_the_terminal(self, outbox: Outbox):
        put_on_sale(units=20)
        orders = [place() for _ in range(5)]

        shown = board.frame(80, board.FREE + 3)

        assert [line[:14] for line in shown[1:-1]] == [order.reference for order in orders[-3:]]

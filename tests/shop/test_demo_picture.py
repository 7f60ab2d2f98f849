"""The picture of the README: deliveries over time, as an SVG that needs nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

from outbox.monitor.timeline import FailedAttempt, TimelineDelivery, TimelineEvent
from shop.demo import animation
from tests.docs.pages import ROOT

BEGAN = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def delivery(handler: str, started: float, settled: float, **facts: Any) -> TimelineDelivery:
    return TimelineDelivery(
        id=1,
        handler=handler,
        state="done",
        attempts=1,
        token=1,
        due_at=BEGAN,
        started_at=at(started),
        settled_at=at(settled),
        why="",
        **facts,
    )


def event(*deliveries: TimelineDelivery) -> TimelineEvent:
    return TimelineEvent(
        id=uuid4(),
        seq=1,
        name="orders.OrderPlaced",
        key="1",
        payload={},
        emitted_at=BEGAN,
        emitted_by="",
        actor="",
        causation_id=None,
        correlation_id=uuid4(),
        depth=0,
        deliveries=deliveries,
    )


def died(start: float, end: float) -> FailedAttempt:
    return FailedAttempt(
        number=1,
        started_at=at(start),
        ended_at=at(end),
        outcome="died",
        exception="",
        message="",
    )


class TestRows:
    def test_are_sorted_by_their_first_start(self):
        late, early = delivery("a.late", 3, 4), delivery("b.early", 1, 2)

        rows = animation.rows_of([event(late, early)])

        assert [row.label for row in rows] == ["b.early", "a.late"]

    def test_have_the_wait_before_each_run(self):
        killed = delivery("payments.authorize_payment", 6, 7, failures=(died(1, 5),))

        (row,) = animation.rows_of([event(killed)])

        assert [(span.kind, span.start, span.end) for span in row.spans] == [
            ("waits", at(0), at(1)),
            ("died", at(1), at(5)),
            ("waits", at(5), at(6)),
            ("done", at(6), at(7)),
        ]

    def test_leave_out_handlers(self):
        found = animation.rows_of(
            [event(delivery("webhooks.write", 1, 2), delivery("a.b", 1, 2))],
            leave_out=("webhooks.",),
        )

        assert [row.label for row in found] == ["a.b"]


class TestThePicture:
    def test_is_well_formed_and_loads_nothing(self):
        rows = animation.rows_of([event(delivery("a.b", 1, 2))])

        text = animation.svg(rows, title="<order>", end="ready to ship", killed_at=at(1.5))

        picture = ElementTree.fromstring(text)
        assert picture.find(f"{SVG}title").text == "<order>"  # type: ignore[union-attr]
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "prefers-reduced-motion" in text

    def test_of_the_readme_is_one_of_a_killed_worker(self):
        text = (ROOT / "docs/images/killed-worker.svg").read_text()

        classes = [one.get("class") for one in ElementTree.fromstring(text).iter(f"{SVG}rect")]
        assert "died" in classes
        assert classes.count("done") > 5
        assert "End: ready to ship" in text

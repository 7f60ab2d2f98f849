from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from uuid import UUID, uuid4
from xml.etree import ElementTree

import pytest
from django.utils import translation

from outbox import drawing
from outbox.drawing.chart import Series, chart
from outbox.drawing.map import Arrow, Network, network_map
from outbox.drawing.waterfall import bars_of, scale_of
from outbox.monitor.sentences import sentences_of
from outbox.monitor.timeline import FailedAttempt, TimelineDelivery, TimelineEvent

START = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
numbers = count(1)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def span(length: timedelta) -> str:
    return f"{length.total_seconds():g} s"


def delivery(
    handler: str,
    state: str = "done",
    *,
    started: float | None = 1,
    settled: float | None = 2,
    attempts: int = 1,
    why: str = "",
    failures: Sequence[FailedAttempt] = (),
) -> TimelineDelivery:
    return TimelineDelivery(
        id=next(numbers),
        handler=handler,
        state=state,
        attempts=attempts,
        token=attempts,
        due_at=START,
        started_at=None if started is None else at(started),
        settled_at=None if settled is None else at(settled),
        why=why,
        failures=failures,
    )


def event(
    name: str,
    *deliveries: TimelineDelivery,
    seconds: float = 0,
    cause: TimelineEvent | None = None,
    by: str = "",
) -> TimelineEvent:
    return TimelineEvent(
        id=uuid4(),
        seq=next(numbers),
        name=name,
        key="k",
        emitted_at=at(seconds),
        emitted_by=by,
        actor="",
        causation_id=cause.id if cause else None,
        correlation_id=UUID(int=0),
        depth=0,
        payload={},
        fanned_out_at=START,
        deliveries=deliveries,
    )


def failed(begin: float, end: float) -> FailedAttempt:
    return FailedAttempt(
        number=1, started_at=at(begin), ended_at=at(end), outcome="failed", exception="", message=""
    )


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def classes(picture: ElementTree.Element) -> list[str]:
    return [one.get("class", "") for one in picture.iter()]


def texts(picture: ElementTree.Element) -> list[str]:
    return ["".join(one.itertext()).strip() for one in picture.iter(f"{SVG}text")]


class TestASequenceDiagram:
    def test_has_a_lifeline_for_each_app_in_order_of_appearance(self) -> None:
        drawn = event("shop.Placed", delivery("stock.reserve"), delivery("mail.thank"))

        picture = parsed(drawing.sequence([drawn]))

        assert texts(picture)[:3] == ["shop", "stock", "mail"]

    def test_has_an_arrow_for_each_delivery_styled_by_its_state(self) -> None:
        drawn = event(
            "shop.Placed",
            delivery("stock.reserve"),
            delivery("mail.thank", "dead", settled=None, attempts=3, why="Dead: no."),
        )

        picture = parsed(drawing.sequence([drawn]))

        assert classes(picture).count("outbox-arrow outbox-done") == 1
        assert classes(picture).count("outbox-arrow outbox-dead") == 1
        assert "thank (dead, 3 attempts)" in texts(picture)

    def test_points_from_the_emitting_app_to_the_subscriber(self) -> None:
        picture = parsed(drawing.sequence([event("shop.Placed", delivery("stock.reserve"))]))

        (way,) = [one for one in picture.iter() if one.get("class") == "outbox-arrow-line"]

        assert float(way.get("x1", 0)) < float(way.get("x2", 0))

    def test_has_a_loop_if_an_app_subscribes_to_its_own_event(self) -> None:
        picture = parsed(drawing.sequence([event("shop.Placed", delivery("shop.count"))]))

        assert [one.tag for one in picture.iter() if one.get("class") == "outbox-arrow-line"] == [
            f"{SVG}path"
        ]

    def test_escapes_markup_in_names(self) -> None:
        drawn = event("shop.<script>", delivery('stock."><script>', why="<b>&</b>"))

        picture = parsed(drawing.sequence([drawn], address=lambda _row: '"><script>'))

        assert not list(picture.iter(f"{SVG}script"))

    def test_of_two_hundred_events_gives_each_row_room(self) -> None:
        drawn = [event(f"app{n % 6}.Noted", delivery(f"app{n % 5}.note")) for n in range(200)]

        picture = parsed(drawing.sequence(drawn))

        height, width = float(picture.get("height", 0)), float(picture.get("width", 0))
        assert height > 200 * 50
        assert width < 1300
        rows = sorted(float(dot.get("cy", 0)) for dot in picture.iter(f"{SVG}circle"))
        assert min(b - a for a, b in pairwise(rows)) >= 50

    def test_repeats_the_names_of_apps_at_intervals(self) -> None:
        drawn = [event("shop.Noted", delivery("stock.note")) for _ in range(40)]

        picture = parsed(drawing.sequence(drawn))

        names = [one for one in picture.iter(f"{SVG}text") if one.text == "stock"]
        heights = [0.0, *(float(one.get("y", 0)) for one in names), float(picture.get("height", 0))]
        assert max(b - a for a, b in pairwise(heights)) < 620


class TestAWaterfall:
    def test_shows_waiting_failing_and_running(self) -> None:
        one = delivery("stock.reserve", started=5, settled=6, attempts=2, failures=[failed(1, 2)])

        bars = bars_of(event("shop.Placed", one), one, now=at(9))

        kinds = [(bar.kind, bar.begin, bar.end) for bar in bars]
        assert kinds == [
            ("waiting", at(0), at(1)),
            ("failed", at(1), at(2)),
            ("waiting", at(2), at(5)),
            ("running", at(5), at(6)),
        ]

    def test_shows_a_run_that_was_replayed_later_as_a_run(self) -> None:
        """Failed: the run that had succeeded was drawn as a failed attempt."""
        receipt = replace(failed(1, 2), outcome="replayed")
        one = delivery("stock.reserve", started=5, settled=6, failures=[receipt])

        bars = bars_of(event("shop.Placed", one), one, now=at(9))

        assert [bar.kind for bar in bars] == ["waiting", "running", "waiting", "running"]

    def test_draws_a_running_delivery_until_now(self) -> None:
        one = delivery("stock.reserve", "sent", started=1, settled=None)

        bars = bars_of(event("shop.Placed", one), one, now=at(9))

        assert [(bar.kind, bar.end) for bar in bars] == [("waiting", at(1)), ("running", at(9))]

    def test_draws_no_run_for_a_delivery_that_waits_after_a_failure(self) -> None:
        one = delivery("s.r", "pending", started=1, settled=None, failures=[failed(1, 2)])

        bars = bars_of(event("shop.Placed", one), one, now=at(9))

        assert [bar.kind for bar in bars] == ["waiting", "failed", "waiting"]

    def test_marks_stuck_deliveries(self) -> None:
        one = delivery("s.r", "dead", started=1, settled=None, failures=[failed(1, 2)])

        picture = drawing.waterfall([event("shop.Placed", one)], now=at(9), span=span)

        assert classes(parsed(picture)).count("outbox-bar-stuck") == 1

    def test_draws_a_run_without_duration(self) -> None:
        one = delivery("s.r", started=0, settled=0)

        picture = parsed(drawing.waterfall([event("s.Noted", one)], now=at(0), span=span))

        (bar,) = [one for one in picture.iter() if one.get("class") == "outbox-bar-running"]
        assert float(bar.get("width", "").removesuffix("%")) > 0


class TestATimeScale:
    def test_cuts_out_two_idle_days(self) -> None:
        day = 86_400
        scale = scale_of([(at(0), at(2)), (at(2 * day), at(2 * day + 1))], width=600)

        assert len(scale.cuts) == 1
        assert scale.cuts[0][1] == timedelta(seconds=2 * day - 2)
        assert scale.x(at(2)) > 300
        assert scale.x(at(2 * day + 1)) == pytest.approx(scale.width)

    def test_keeps_order_and_proportion_within_a_period(self) -> None:
        scale = scale_of([(at(0), at(4)), (at(1), at(8))], width=800)

        assert scale.cuts == []
        assert [scale.x(at(second)) for second in (0, 2, 4, 8)] == pytest.approx([0, 200, 400, 800])


class TestMermaidText:
    def test_has_emitters_subscribers_and_states(self) -> None:
        drawn = event(
            "shop.Placed",
            delivery("stock.reserve", attempts=2),
            delivery("mail.thank", "dead", settled=None),
        )

        assert drawing.mermaid([drawn, event("stock.Reserved")]).splitlines() == [
            "sequenceDiagram",
            "    shop->>stock: Placed (reserve, 2 attempts)",
            "    shop-xmail: Placed (thank, dead)",
            "    Note over stock: Reserved",
        ]


class TestTheTimelineAsText:
    def test_has_effects_attempts_and_times(self) -> None:
        first = event("shop.OrderPlaced", delivery("stock.reserve", attempts=2))
        second = event("stock.StockReserved", seconds=1.5, cause=first, by="stock.reserve")

        drawn = [sentence.text for sentence in sentences_of([first, second], span=span)]

        assert drawn == [
            "Order placed.",
            "Stock reserved, after 2 attempts, 1.5 s after order placed.",
        ]

    def test_is_in_the_active_language_with_its_punctuation(self) -> None:
        first = event("shop.OrderPlaced", delivery("stock.reserve", attempts=2))
        second = event("stock.StockReserved", seconds=1.5, cause=first, by="stock.reserve")

        with translation.override("ja"):
            _, sentence = sentences_of([first, second], span=lambda _: "1.5 秒")

        assert sentence.text == "Stock reserved、2 回の試行の後、shop.OrderPlaced の 1.5 秒 後。"

    def test_names_owed_deliveries(self) -> None:
        waiting = delivery("mail.thank", "pending", started=None, settled=None)
        first = event("shop.OrderPlaced", delivery("stock.reserve"), waiting)

        (sentence,) = sentences_of([first], span=span)

        assert sentence.owed == [waiting]


class TestAMap:
    NETWORK = Network(
        events=["shop.Placed", "shop.Shelved"],
        handlers=["mail.thank", "stock.reserve"],
        arrows=[
            Arrow("shop.Placed", "stock.reserve"),
            Arrow("shop.Placed", "mail.thank", note="held", is_held=True),
        ],
        notes={"shop.Placed": "4 a minute"},
    )

    def test_has_a_line_from_each_event_to_its_handlers(self) -> None:
        picture = parsed(network_map(self.NETWORK))

        assert classes(picture).count("outbox-arrow outbox-done") == 1
        assert classes(picture).count("outbox-arrow outbox-parked") == 1
        assert "Placed · 4 a minute" in texts(picture)

    def test_has_the_notes_of_a_handler_at_one_place_once(self) -> None:
        """Failed: two subscriptions of a paused handler had their words on top of each other."""
        network = Network(
            events=["shop.Placed", "shop.Shelved", "shop.Sent"],
            handlers=["mail.thank"],
            arrows=[
                Arrow("shop.Placed", "mail.thank", note="held", is_held=True),
                Arrow("shop.Sent", "mail.thank", note="held", is_held=True),
                Arrow("shop.Shelved", "mail.thank", note="settled by stock"),
            ],
        )

        shown = texts(parsed(network_map(network)))

        assert [one for one in shown if "held" in one] == ["held · settled by stock"]

    def test_marks_an_event_without_subscriber(self) -> None:
        picture = parsed(network_map(self.NETWORK))

        assert self.NETWORK.events_without_handler == ["shop.Shelved"]
        assert classes(picture).count("outbox-box outbox-unmatched") == 1

    def test_marks_a_handler_of_an_undeclared_event(self) -> None:
        network = Network(
            events=["shop.Placed"],
            handlers=["mail.thank"],
            arrows=[Arrow("shop.Gone", "mail.thank")],
        )

        assert network.handlers_without_event == ["mail.thank"]
        assert classes(parsed(network_map(network))).count("outbox-box outbox-unmatched") == 2

    def test_has_no_overlapping_boxes(self) -> None:
        network = Network(events=[f"a{n % 3}.E{n}" for n in range(40)], handlers=["b.h"], arrows=[])

        picture = parsed(network_map(network))

        boxes = [one for one in picture.iter() if "outbox-box " in one.get("class", "") + " "]
        tops = sorted(float(box.get("y", 0)) for box in boxes if float(box.get("x", 0)) < 100)
        assert len(tops) == 40
        assert min(b - a for a, b in pairwise(tops)) >= float(boxes[0].get("height", 0))


class TestTheAxisOfAChart:
    def test_has_counts_at_their_height(self):
        for most in range(100):
            picture = parsed(chart([Series("dead", [most])], times=["10:00"], label="Failures"))

            zero, half, top = texts(picture)[:3]
            assert (int(zero), int(half) * 2) == (0, int(top))
            assert int(top) >= most

    def test_has_room_for_a_time_of_two_units(self):
        """Seen to fail with a margin of 48: "1 min 40 s" began outside of the picture."""
        rows = [Series("median", [100.0, 90.0], shape="line", tone="plain")]

        picture = ElementTree.fromstring(
            chart(
                rows, times=["10:00", "10:01"], label="Times", format_value=lambda _: "1 min 40 s"
            )
        )

        labels = [one for one in picture.iter(f"{SVG}text") if one.text == "1 min 40 s"]
        assert labels
        width = 6.5 * len("1 min 40 s")  # pixels at 12 px
        assert all(float(one.get("x", 0)) >= width for one in labels)

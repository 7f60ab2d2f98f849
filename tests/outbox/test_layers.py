"""The map's layers, its crossings, its parts, and sparklines."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from xml.etree import ElementTree

import pytest

from outbox.drawing.layers import layered
from outbox.drawing.map import arranged, network_map
from outbox.drawing.network import Arrow, Emission, Network
from outbox.drawing.places import heights
from outbox.drawing.sparkline import sparkline

SVG = "{http://www.w3.org/2000/svg}"

PARCELS = Network(
    events=["shop.Placed", "stock.Reserved", "bank.Paid", "bank.Reported"],
    handlers=["stock.reserve", "bank.charge", "shop.ship", "mail.thank"],
    arrows=[
        Arrow("shop.Placed", "stock.reserve", rate=120),
        Arrow("stock.Reserved", "bank.charge"),
        Arrow("bank.Paid", "shop.ship"),
        Arrow("bank.Paid", "mail.thank"),
    ],
    emissions=[Emission("stock.reserve", "stock.Reserved"), Emission("bank.charge", "bank.Paid")],
    problems={"bank.charge": "failing"},
)


def project(handlers: int) -> Network:
    """A project of twenty apps whose handlers emit events that other handlers subscribe to."""
    pick = Random(7)
    events = [f"app{n % 20}.Happened{n}" for n in range(handlers // 2)]
    names = [f"app{n % 20}.react_to_what_happened_{n}" for n in range(handlers)]
    arrows, emissions = [], []
    for name in names:
        cause = pick.randrange(len(events))
        arrows.append(Arrow(events[cause], name))
        if pick.random() < 0.5 and cause + 1 < len(events):
            effect = min(len(events) - 1, cause + 1 + pick.randrange(12))
            emissions.append(Emission(name, events[effect]))
    return Network(events, names, arrows, emissions)


def parsed(network: Network) -> ElementTree.Element:
    return ElementTree.fromstring(network_map(network))


def classes(picture: ElementTree.Element) -> list[str]:
    return [word for one in picture.iter() for word in one.get("class", "").split()]


def words(picture: ElementTree.Element) -> list[str]:
    return ["".join(one.itertext()) for one in picture.iter(f"{SVG}text")]


class TestLayers:
    def test_place_causes_left_of_effects(self) -> None:
        graph = layered("abcd", [("a", "b"), ("b", "c"), ("a", "d"), ("d", "c")])

        assert [set(row) for row in graph.rows] == [{"a"}, {"b", "d"}, {"c"}]

    def test_bend_a_line_over_several_layers(self) -> None:
        graph = layered("abc", [("a", "b"), ("b", "c"), ("a", "c")])

        assert [len(row) for row in graph.rows] == [1, 2, 1]
        assert len(graph.ways["a", "c"]) == 3

    def test_draw_a_cycle_back(self) -> None:
        graph = layered("abc", [("a", "b"), ("b", "c"), ("c", "b")])

        assert graph.reversed == {("c", "b")}
        assert [set(row) for row in graph.rows] == [{"a"}, {"b"}, {"c"}]

    def test_have_no_crossing_where_none_is_needed(self) -> None:
        pairs = [(f"a{n}", f"b{7 - n}") for n in range(8)]
        nodes = [name for pair in pairs for name in pair]

        assert layered(sorted(nodes), pairs).crossings == 0

    def test_count_the_crossings_that_are_needed(self) -> None:
        """Two nodes that are each connected to the same two have one crossing in any order."""
        pairs = [(a, b) for a in "ab" for b in "cd"]

        assert layered("abcd", pairs).crossings == 1

    def test_of_two_hundred_handlers_have_few_crossings(self) -> None:
        graph = arranged(project(200))

        # 60 as written, 84 from the given order alone. Grandalf 0.8 has 137 for the same graph.
        assert graph.crossings <= 70

    def test_begin_with_several_orders(self) -> None:
        """3 as written, 10 from the given order alone."""
        assert arranged(project(60)).crossings <= 5

    def test_keep_the_given_order_of_nodes_with_the_same_neighbours(self) -> None:
        """A random order has the fewest crossings here. Seen to mix up the nodes."""
        one, alone = project(60), [f"zoo.Alone{n}" for n in range(8)]
        listeners = [f"zoo.listen_{n}" for n in range(8)]
        arrows = [*one.arrows, *(Arrow(one.events[0], name) for name in listeners)]
        network = Network([*one.events, *alone], [*one.handlers, *listeners], arrows, one.emissions)

        cells = [cell for row in arranged(network).rows for cell in row]

        assert [cell for cell in cells if str(cell).startswith("event zoo")] == [
            f"event {name}" for name in alone
        ]
        assert [cell for cell in cells if str(cell).startswith("handler zoo")] == [
            f"handler {name}" for name in listeners
        ]

    def test_count_a_handler_that_emits_its_own_event_twice(self) -> None:
        """Seen with two crossings: nodes of the same neighbours, but not of as many lines."""
        subscriptions = [("e0", "h0"), ("e0", "h2"), ("e1", "h0"), ("e1", "h1"), ("e1", "h2")]
        emissions = [("h2", "e0"), ("h1", "e1")]

        graph = layered(
            ["e0", "e1", "h0", "h1", "h2"],
            [*subscriptions, *emissions],
            second=["h0", "h1", "h2"],
        )

        assert graph.crossings == 1

    def test_are_the_same_each_time(self) -> None:
        assert arranged(project(60)) == arranged(project(60))


class TestPlaces:
    def test_never_overlap(self) -> None:
        graph = arranged(project(200))

        middles = heights(graph, size=lambda _cell: 20)

        for row in graph.rows:
            assert all(middles[b] - middles[a] > 19.99 for a, b in pairwise(row))

    def test_are_those_of_the_neighbours_in_a_chain(self) -> None:
        graph = layered("abc", [("a", "b"), ("b", "c")])

        assert len(set(heights(graph, size=lambda _cell: 20).values())) == 1


class TestTheMap:
    def test_has_a_line_for_each_subscription_and_emission(self) -> None:
        found = classes(parsed(PARCELS))

        assert found.count("outbox-arrow") == 6
        assert found.count("outbox-emission") == 2

    def test_marks_a_failing_handler_by_colour_shape_and_word(self) -> None:
        picture = parsed(PARCELS)

        assert classes(picture).count("outbox-failing") == 1
        assert "bank ✕ failing" in words(picture)
        assert classes(picture).count("outbox-dead") == 1

    def test_draws_a_busy_line_wider(self) -> None:
        found = classes(parsed(PARCELS))

        assert found.count("outbox-rate-4") == 1
        assert found.count("outbox-rate-0") == 5

    def test_has_room_for_each_text(self) -> None:
        picture = parsed(project(200))

        right = float(picture.get("width", 0))
        assert max(float(one.get("x", 0)) for one in picture.iter(f"{SVG}rect")) < right
        assert len(list(picture.iter(f"{SVG}rect"))) == 300

    def test_shows_a_cycle(self) -> None:
        again = Emission("shop.ship", "shop.Placed")
        network = Network(
            PARCELS.events, PARCELS.handlers, PARCELS.arrows, [*PARCELS.emissions, again]
        )

        assert classes(parsed(network)).count("outbox-emission") == 3

    def test_of_nothing_is_empty(self) -> None:
        assert classes(parsed(Network([], [], []))) == ["outbox-picture"]


class TestAPartOfTheMap:
    def test_of_an_app_has_its_direct_causes_and_effects(self) -> None:
        part = PARCELS.of_app("stock")

        assert part.events == ["shop.Placed", "stock.Reserved"]
        assert part.handlers == ["stock.reserve", "bank.charge"]

    def test_of_a_process_has_all_effects_of_its_first_event(self) -> None:
        part = PARCELS.of_process("shop.Placed")

        assert part.events == ["shop.Placed", "stock.Reserved", "bank.Paid"]
        assert part.handlers == PARCELS.handlers

    def test_of_a_handler_has_no_effects_of_its_causes_alone(self) -> None:
        part = PARCELS.of_process("mail.thank")

        assert "shop.ship" not in part.handlers
        assert part.events == ["shop.Placed", "stock.Reserved", "bank.Paid"]

    def test_begins_where_no_handler_emits_the_event(self) -> None:
        assert PARCELS.first_events == ["shop.Placed"]


class TestASparkline:
    @pytest.mark.parametrize(
        ("minutes", "bars"), [([(0, 0)] * 30, 0), ([(3, 0), (0, 2), (1, 1)], 4)]
    )
    def test_has_a_bar_for_each_number(self, minutes: list[tuple[int, int]], bars: int) -> None:
        picture = ElementTree.fromstring(sparkline(minutes))

        series = [one for one in picture.iter() if "outbox-series" in one.get("class", "")]
        assert sum(one.get("d", "").count("M") for one in series) == bars

    def test_says_its_numbers(self) -> None:
        picture = ElementTree.fromstring(sparkline([(3, 0), (0, 2), (1, 1)]))

        said = picture.get("aria-label")
        assert said == "Last 3 minutes: 4 done, at most 3 a minute; 3 failed."

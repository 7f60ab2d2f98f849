"""Arithmetic of the benchmarks: comparisons, their order, and warm-ups."""

from __future__ import annotations

import pytest

from benchmarks import sizes
from benchmarks.harness import (
    Figure,
    Ratio,
    WrongEffects,
    in_turn,
    percentile,
    ratio,
    require_effects,
)


class TestAFigure:
    def test_is_the_median_of_its_repeats(self):
        assert Figure("rate", [100.0, 900.0, 300.0], "events/s").median == 300


class TestAPercentile:
    def test_is_a_value_that_so_many_do_not_exceed(self):
        values = [float(number) for number in range(101)]

        assert (percentile(values, 50), percentile(values, 99)) == (50, 99)

    def test_is_never_above_the_largest_value(self):
        assert percentile([1.0, 2.0, 3.0], 99) <= 3


class TestARatio:
    def test_is_the_median_of_the_pairs(self):
        # By medians alone it would be 200 / 100; the third pair shows a machine that got slower.
        assert ratio([400, 200, 30], [100, 100, 10]) == 3

    def test_has_its_pairs_and_their_spread(self):
        found = Ratio.of("key", [400, 200, 30], [100, 100, 10], at_least=2)

        assert (found.value, found.pairs) == (3, [4, 2, 3])
        assert found.spread == "2 to 4, 3 pairs"

    def test_refuses_repeats_without_a_counterpart(self):
        with pytest.raises(ValueError, match="they are no pairs"):
            ratio([1.0, 2.0], [1.0])

    @pytest.mark.parametrize(
        ("value", "target", "is_reached"),
        [
            (5.0, {"at_least": 5}, True),
            (4.99, {"at_least": 5}, False),
            (1.2, {"at_most": 1.2}, True),
            (1.21, {"at_most": 1.2}, False),
            (99.0, {}, True),
        ],
    )
    def test_reaches_its_target_or_misses_it(self, value, target, is_reached):
        assert Ratio("key", value, **target).is_reached is is_reached

    @pytest.mark.parametrize(
        ("target", "value", "pairs"),
        [({"at_least": 2}, 3, [3, 2, 4]), ({"at_most": 2}, 5, [5, 5, 6])],
    )
    def test_of_several_sides_is_the_worst_with_its_pairs(
        self, target: dict[str, float], value: float, pairs: list[float]
    ):
        sides = [([50, 50, 60], [10, 10, 10]), ([30, 20, 40], [10, 10, 10])]

        found = Ratio.worst_of("key", sides, **target)

        assert (found.value, found.pairs) == (value, pairs)


class TestAlternatingSides:
    def test_are_measured_in_turn(self):
        asked: list[str] = []

        def measure(name: str) -> int:
            asked.append(name)
            return len(asked)

        found = in_turn({"a": lambda: measure("a"), "b": lambda: measure("b")}, repeats=2)

        assert asked == ["a", "b", "a", "b"]
        assert found == {"a": [1, 3], "b": [2, 4]}

    def test_are_repeated_as_often_as_asked_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(sizes.ROUNDS, "4")

        assert in_turn({"a": lambda: 1}, repeats=2) == {"a": [1, 1, 1, 1]}

    def test_discard_their_warm_ups(self):
        values = iter([10, 20, 30])

        found = in_turn({"a": lambda: next(values)}, repeats=2, warm_ups=1)

        assert found == {"a": [20, 30]}


class TestEffects:
    def test_are_valid_if_each_event_has_one(self):
        require_effects(expected=3, effects=3, distinct=3, who="a side")

    @pytest.mark.parametrize(
        ("effects", "distinct"),
        [(2, 2), (4, 3), (3, 2), (4, 4)],
        ids=["one is missing", "one is double", "one for another", "one too many"],
    )
    def test_make_a_side_fail_if_an_event_has_none_or_two(self, effects, distinct):
        with pytest.raises(WrongEffects, match="a side: 3 events"):
            require_effects(expected=3, effects=effects, distinct=distinct, who="a side")

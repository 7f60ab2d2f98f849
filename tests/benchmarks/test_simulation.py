"""The simulation of many machines: its costs, its model, its fleets, its page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import simpy

from benchmarks import simulate, sizing
from benchmarks.page import part_of
from benchmarks.simulation import costs, fleet, runs, tables
from benchmarks.simulation.costs import Costs
from benchmarks.simulation.system import PACE, Layout, Machine, Seen, Shard
from benchmarks.simulation.validation import Comparison
from benchmarks.simulation.workload import ONE_HANDLER, SHOP

COSTS = Costs(order=0.0005, look=0.001, event=0.00003, message=0.001, delivery=0.0002)
WAL_OF_ORDER = 60_000.0


def hops(**milliseconds: float) -> list[dict[str, object]]:
    """Figures of the row `hops`."""
    names = {
        "orders": "200 such transactions (800 trips)",
        "small_pass": "the relay fans out and sends 1 (4 trips)",
        "large_pass": "the relay fans out and sends 200 (4 trips)",
        "single": "a worker handles a message of 1 (5 trips)",
        "many": "a worker handles a message of 50 (55 trips)",
    }
    return [{"name": names[name], "values": [value]} for name, value in milliseconds.items()]


def shop_shard(
    *, orders: int, seconds: float, outage: tuple[float, float] | None = None
) -> tuple[Seen, int]:
    """Run a shard of the shop; return what it shows, and what is still owed at the end."""
    env = simpy.Environment()
    machine = Machine(env, 4)
    processes = dict.fromkeys(SHOP.queues, 10)
    layout = Layout(machine, machine, machine, machine, 2, processes)
    shard = Shard(env, layout, SHOP, COSTS, rate=20, count=orders, outage=outage)
    env.run(until=seconds)
    return shard.seen, shard.seen.backlog[-1][1]


class TestCosts:
    def test_of_an_event_and_a_delivery_are_the_slopes_of_the_measured_steps(self):
        figures = hops(orders=200, small_pass=1, large_pass=20.9, single=2, many=26.5)

        found = costs.from_hops(figures, commit=0.0002)

        assert found.order == pytest.approx(0.0008)
        assert found.event == pytest.approx(0.0001)
        assert found.look == pytest.approx(0.0009)
        assert found.delivery == pytest.approx(0.0005)
        assert found.message == pytest.approx(0.0011)

    def test_are_refused_if_a_step_was_not_measured(self):
        with pytest.raises(ValueError, match="has no step 'the relay fans out and sends 200 '"):
            costs.from_hops(hops(orders=200, small_pass=1, single=2, many=26), commit=0)

    def test_are_calibrated_to_a_measured_drain_and_latency(self):
        found = runs.calibrated(COSTS, drain=5_000, p50=9.0)

        assert runs.drain_rate(found, events=8_000) == pytest.approx(5_000, rel=0.05)
        assert runs.one_machine(found, rate=20, count=50).p50 == pytest.approx(9.0, rel=0.02)


class TestTheWorkload:
    def test_of_the_shop_has_the_events_and_deliveries_of_a_shipped_order(self):
        events, calls = SHOP.of_one_order()

        assert (len(events), len(calls)) == (sizing.EVENTS, sizing.DELIVERIES)

    def test_of_the_benchmarks_has_one_event_and_one_delivery(self):
        events, calls = ONE_HANDLER.of_one_order()

        assert (len(events), len(calls)) == (1, 1)


class TestAShard:
    def test_handles_each_event_once_by_each_subscriber(self):
        seen, owed = shop_shard(orders=50, seconds=30)

        assert (seen.accepted, owed) == (50, 0)
        assert seen.deliveries == 50 * sizing.DELIVERIES
        assert len(seen.completions) == 50

    def test_takes_at_least_the_two_calls_to_the_bank(self):
        seen, _ = shop_shard(orders=20, seconds=30)

        assert min(seen.completions) >= 1.0

    def test_refuses_orders_during_an_outage_and_loses_none_of_the_others(self):
        seen, owed = shop_shard(orders=200, seconds=60, outage=(2, 6))

        assert seen.refused > 0
        assert seen.accepted + seen.refused == 200
        assert owed == 0
        assert seen.deliveries == seen.accepted * sizing.DELIVERIES

    def test_keeps_up_with_a_load_below_its_limit(self):
        assert runs.one_machine(COSTS, rate=200, count=1_000).throughput == pytest.approx(
            200, rel=0.02
        )

    def test_is_limited_by_its_processors(self):
        highest = runs.one_machine(COSTS, rate=0, count=2_000).throughput
        halved = runs.one_machine(
            replace(COSTS, order=COSTS.order * 2, delivery=COSTS.delivery * 2), rate=0, count=2_000
        ).throughput

        assert highest <= runs.CORES / (COSTS.order + COSTS.delivery)
        assert halved < highest * 0.75

    def test_nudges_the_relay_once_for_each_order_if_no_handler_emits_or_waits(self):
        nudges = 0

        class Counting(Shard):
            def receive_nudge(self) -> None:
                nonlocal nudges
                nudges += 1
                super().receive_nudge()

        env = simpy.Environment()
        machine = Machine(env, 2)
        layout = Layout(machine, machine, machine, machine, 1, {"effects": 2})
        Counting(env, layout, ONE_HANDLER, COSTS, rate=20, count=50, is_random=False)
        env.run(until=10)

        assert nudges == 50

    def test_does_not_wait_for_the_next_poll_while_a_backlog_is_left(self):
        each = COSTS.delivery + COSTS.event

        assert runs.drain_rate(COSTS, events=8_000) > 0.7 * runs.CORES / each

    def test_collects_orders_for_the_relay_under_load(self):
        seldom = runs.one_machine(COSTS, rate=20, count=100)
        often = runs.one_machine(COSTS, rate=1_000, count=3_000)

        assert often.p50 > seldom.p50 + 1000 * PACE / 2
        assert often.throughput == pytest.approx(1_000, rel=0.05)

    def test_collects_orders_for_good_after_a_slow_first_order(self):
        """The orders that waited for it arrive at once. The relay then finds some in each pass."""
        slow = replace(COSTS, first_order=0.05)

        usual = runs.one_machine(COSTS, rate=260, count=2_000)
        collected = runs.one_machine(slow, rate=260, count=2_000)

        assert collected.p50 > usual.p50 + 1000 * PACE / 2

    def test_collects_orders_for_good_after_a_slow_first_pass(self):
        slow = replace(COSTS, first_pass=0.05)

        usual = runs.one_machine(COSTS, rate=260, count=2_000)
        collected = runs.one_machine(slow, rate=260, count=2_000)

        assert collected.p50 > usual.p50 + 1000 * PACE / 2

    def test_has_one_first_order_for_each_web_process(self):
        env = simpy.Environment()
        machine = Machine(env, 2)
        layout = Layout(machine, machine, machine, machine, 3, {"effects": 2})
        slow = replace(COSTS, first_order=1.0)
        shard = Shard(env, layout, ONE_HANDLER, slow, rate=20, count=40, is_random=False)
        env.run(until=20)

        assert shard.seen.accepted == 40
        assert 3 < machine.busy < 4

    def test_gives_the_same_figures_for_the_same_seed(self):
        assert runs.one_machine(COSTS, rate=300, count=500) == runs.one_machine(
            COSTS, rate=300, count=500
        )


class TestAFleet:
    @pytest.mark.parametrize("orders_a_minute", [100, 5_000])
    def test_is_busy_for_the_planned_part_of_its_time_at_most(self, orders_a_minute):
        planned = fleet.fleet_for(orders_a_minute, COSTS, wal_of_order=WAL_OF_ORDER)

        found, _ = fleet.run(planned, COSTS, seconds=60 if orders_a_minute < 1_000 else 10)

        assert max(found.use.values()) < fleet.PLANNED + 0.15

    def test_has_shards_for_the_limit_that_needs_most(self):
        planned = fleet.fleet_for(1_000_000, COSTS, wal_of_order=WAL_OF_ORDER)

        assert planned.shards >= max(planned.bounds.values()) > 1
        assert planned.wal < fleet.WAL_LIMIT

    def test_needs_one_shard_for_a_small_shop(self):
        assert fleet.fleet_for(100, COSTS, wal_of_order=WAL_OF_ORDER).shards == 1

    def test_falls_behind_with_more_than_it_was_planned_for(self):
        planned = fleet.fleet_for(600, COSTS, wal_of_order=WAL_OF_ORDER)

        asked, _ = fleet.run(planned, COSTS, seconds=20)
        flooded, seen = fleet.run(planned, COSTS, seconds=20, load=4)

        assert flooded.p99 > asked.p99 * 2
        assert seen.backlog[-1][1] > seen.backlog[5][1]


class TestAComparison:
    MACHINE = runs.Figures(throughput=100, p50=10, p99=20)

    @pytest.mark.parametrize(
        ("model", "is_within"),
        [
            (runs.Figures(throughput=110, p50=11, p99=39), True),
            (runs.Figures(throughput=80, p50=10, p99=20), False),
            (runs.Figures(throughput=100, p50=12, p99=20), False),
            (runs.Figures(throughput=100, p50=10, p99=41), False),
        ],
    )
    def test_is_within_bounds_if_each_figure_is(self, model, is_within):
        assert Comparison(100, self.MACHINE, model).is_within() is is_within


class TestThePage:
    def test_equals_the_latest_simulation(self):
        known = json.loads(simulate.RESULTS.read_text())
        text = simulate.PAGE.read_text()

        for name, part in tables.parts(known).items():
            assert part_of(text, name) == part

"""A stage of the benchmarks: real processes, and their effects counted in the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import endurance
from benchmarks import ground as grounds
from benchmarks.ground import MILLISECONDS, Ground
from benchmarks.harness import WrongEffects
from benchmarks.sides import TUNED_CELERY, Side, ours

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


class TestAStage:
    @pytest.mark.parametrize("side", [ours(), TUNED_CELERY], ids=lambda side: side.name)
    def test_reads_one_effect_and_its_commit_time_for_each_order(self, ground: Ground, side: Side):
        with ground.stage(side) as stage:
            stage.start_consumers()
            stage.emit(5)
            stage.wait_for_effects(5)

            assert len(stage.query(MILLISECONDS)) == 5

    def test_fails_a_side_with_fewer_effects_than_events(
        self, ground: Ground, monkeypatch: pytest.MonkeyPatch
    ):
        with ground.stage(ours()) as stage:
            stage.start_consumers()
            stage.emit(2)
            stage.wait_for_effects(2)
            monkeypatch.setattr(grounds, "STANDSTILL", 2.0)

            with pytest.raises(WrongEffects, match="outbox: 3 events, 2 of them have an effect"):
                stage.wait_for_effects(3)

    def test_leaves_no_process_and_no_database(self, ground: Ground):
        with ground.stage(ours()) as stage:
            stage.start_consumers()
            processes = list(stage._processes.values())

        assert processes
        assert all(process.poll() is not None for process in processes)
        names = ground.execute("SELECT datname FROM pg_database WHERE datname LIKE 'stage_%'")
        assert names == []


class TestTheRawRelay:
    def test_makes_one_delivery_for_each_event(self, ground: Ground):
        with ground.stage(ours()) as stage:
            stage.start_module("raw", "benchmarks.project.ours.raw_relay")
            stage.emit(3, "--events-only")

            delivered = "SELECT count(*), count(DISTINCT event_id) FROM outbox_delivery"
            stage.wait_until(lambda: stage.query(delivered) == [(3, 3)], "three deliveries")


class TestALongRun:
    @pytest.fixture(autouse=True)
    def _short_minutes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endurance, "MINUTE", 2.0)

    def test_has_figures_of_each_minute(self, ground: Ground):
        found = endurance.run(ground, ours(), history=40, minutes=3, per_second=10)

        figures = {one.name: one.values for one in found.figures}
        assert len(figures["p99, by the minute"]) == 3
        assert len(figures["relay, by the minute"]) == 4
        assert sum(figures["events, by the minute"]) > 0
        assert found.notes == ["The history has 40 settled events."]

    def test_reports_the_failure_of_its_producer(
        self, ground: Ground, monkeypatch: pytest.MonkeyPatch
    ):
        def fail(*_arguments: object) -> None:
            raise RuntimeError("no orders")

        monkeypatch.setattr(endurance, "_emit", fail)

        with pytest.raises(RuntimeError, match="The producer has failed"):
            endurance.run(ground, ours(), history=1, minutes=1)

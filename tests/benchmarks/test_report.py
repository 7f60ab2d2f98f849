"""Output of a run of the benchmarks: Markdown, a file, a last line, an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import machine, report
from benchmarks.__main__ import exit_code, measured
from benchmarks.ground import Ground
from benchmarks.harness import Figure, Ratio, Result, WrongEffects
from benchmarks.row import Row
from benchmarks.rows import ORDER, all_rows

KEYS = [
    "relay_vs_raw",
    "relay_vs_best_peer",
    "drain_vs_celery",
    "sustained_vs_celery",
    "latency_p50_vs_celery",
    "latency_p99_vs_celery",
    "latency_p50_vs_best_peer",
    "chain_vs_hop",
    "emit_vs_insert",
    "post_vs_plain",
    "post_p99_broker_down",
    "growth_worst",
    "wal_vs_raw",
]


def finds(*ratios: Ratio) -> Row:
    """A row without a measurement that returns this finding."""
    found = Result([Figure("outbox", [1.0, 3.0, 2.0], "events/s")], ratios)
    return Row("drain", "a title", "a target", lambda _ground, _quick: found)


def fails() -> Row:
    def measure(_ground: Ground, _quick: bool) -> Result:
        raise WrongEffects("outbox: 3 events, 2 of them have an effect, 2 effects in all.")

    return Row("relay", "a title", "a target", measure)


@pytest.fixture
def ground() -> Ground:
    """A stack that is never started, because these rows do not measure."""
    return Ground()


class TestTheLastLine:
    def test_has_exactly_the_agreed_keys_in_order(self):
        assert list(json.loads(report.last_line([]))) == KEYS

    def test_has_null_for_missing_measurements(self, ground):
        outcomes = list(measured([finds(Ratio("drain_vs_celery", 5.25))], ground, quick=True))

        shown = json.loads(report.last_line(outcomes))

        assert shown.pop("drain_vs_celery") == 5.25
        assert set(shown.values()) == {None}

    def test_leaves_out_ratios_that_are_not_agreed(self, ground):
        outcomes = list(measured([finds(Ratio("of_interest", 1.0))], ground, quick=True))

        assert list(json.loads(report.last_line(outcomes))) == KEYS


class TestARun:
    def test_continues_after_a_row_that_fails(self, ground):
        outcomes = list(
            measured([fails(), finds(Ratio("drain_vs_celery", 6.0))], ground, quick=True)
        )

        assert "2 of them have an effect" in report.section(outcomes[0])
        assert json.loads(report.last_line(outcomes))["drain_vs_celery"] == 6
        assert "Rows that failed: relay." in report.summary(outcomes)

    def test_ends_with_1_if_a_row_failed(self, ground):
        assert exit_code(measured([finds(), fails()], ground, quick=True)) == 1

    def test_ends_with_0_if_a_target_was_missed(self, ground):
        row = finds(Ratio("drain_vs_celery", 1.0, at_least=5))

        assert exit_code(measured([row], ground, quick=True)) == 0


class TestTheMarkdown:
    def test_shows_the_median_and_each_repeat(self, ground):
        [outcome] = measured([finds()], ground, quick=True)

        assert "| outbox | 2 events/s | 1 3 2 |" in report.section(outcome)

    def test_states_that_a_target_was_missed(self):
        row = finds(Ratio("drain_vs_celery", 4.9, at_least=5), Ratio("b", 1.0, at_most=2))

        shown = report.summary([report.Outcome(row, 1.0, row.measure(Ground(), True))])

        assert "| `drain_vs_celery` | 4.9 |  | at least 5 | **missed** |" in shown
        assert "1 of 2 targets reached, 1 missed." in shown

    def test_states_that_a_miss_beside_other_programs_is_not_reliable(self):
        missed, reached = Ratio("drain_vs_celery", 4.9, at_least=5), Ratio("b", 1.0, at_most=2)
        row = finds(missed, reached)
        busy = report.Outcome(row, 1.0, row.measure(Ground(), True), foreign=0.5)

        shown = report.summary([busy])

        assert "| `drain_vs_celery` | 4.9 |  | at least 5 | not reliable |" in shown
        assert "1 of 2 targets reached, 0 missed. 1 not reliable" in shown

    def test_shows_the_spread_of_the_pairs(self):
        row = finds(Ratio.of("drain_vs_celery", [10.0, 12.0, 8.0], [2.0, 2.0, 2.0]))

        shown = report.summary([report.Outcome(row, 1.0, row.measure(Ground(), True))])

        assert "| `drain_vs_celery` | 5 | 4 to 6, 3 pairs |  |  |" in shown


class TestForeignLoad:
    def test_is_the_processor_time_of_other_programs(self, monkeypatch: pytest.MonkeyPatch):
        busy, own = iter([100.0, 112.0]), iter([50.0, 54.0])
        monkeypatch.setattr(machine, "_busy_seconds", lambda: next(busy))
        monkeypatch.setattr(machine, "_own_seconds", lambda: next(own))
        load = machine.ForeignLoad()
        load._began -= 10

        assert load.cores() == pytest.approx(0.8, rel=0.2)

    def test_does_not_contain_a_child(self):
        before = machine._own_seconds()

        subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)

        assert machine._own_seconds() > before


class TestTheFile:
    def test_has_the_machine_every_repeat_and_the_agreed_keys(self, ground, tmp_path: Path):
        outcomes = list(
            measured([finds(Ratio("drain_vs_celery", 6.0)), fails()], ground, quick=True)
        )
        path = tmp_path / "results" / "latest.json"

        report.write(outcomes, machine={"processor": "2 x one"}, quick=True, path=path)

        shown = json.loads(path.read_text())
        assert shown["machine"] == {"processor": "2 x one"}
        assert shown["drain_vs_celery"] == 6
        assert shown["rows"]["drain"]["figures"][0]["values"] == [1, 3, 2]
        assert "WrongEffects" in shown["rows"]["relay"]["error"]


class TestTheRows:
    def test_are_complete_and_in_the_order_of_the_table(self):
        names = [row.name for row in all_rows()]

        assert [name for name in names if name in ORDER] == [n for n in ORDER if n in names]
        assert len(names) == len(set(names))

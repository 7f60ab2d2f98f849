"""The parts of the page of performance that a run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, report, sizing

MACHINE = {"processor": "2 x one"}


def figure(name: str, *values: float, unit: str = "ms") -> dict[str, Any]:
    return {"name": name, "values": list(values), "unit": unit}


def found(**rows: dict[str, Any]) -> dict[str, Any]:
    return {"machine": MACHINE, "quick": True, "rows": rows}


def row(*figures: dict[str, Any], **ratio: Any) -> dict[str, Any]:
    ratios = [{"at_least": None, "at_most": None, **ratio}] if ratio else []
    return {"target": "to be quick", "figures": list(figures), "ratios": ratios}


class TestThePage:
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        latest = tmp_path / "latest.json"
        latest.write_text(json.dumps(found(drain=row(figure("outbox", 1, 2, 9)))))
        monkeypatch.setattr(report, "LATEST", latest)
        monkeypatch.setattr(report, "PROCESSORS", tmp_path / "processors")
        return tmp_path / "page.md"

    def test_keeps_the_text_around_its_parts(self, path: Path):
        marks = [f"{page.BEGIN}\nold\n{page.END}".format(*[name] * 2) for name in PARTS]
        path.write_text("\n".join(["Before.", *marks, "After.\n"]))

        page.write(path)

        text = path.read_text()
        assert text.startswith("Before.\n")
        assert text.endswith("After.\n")
        assert "old" not in text
        assert "| drain | outbox | 2 ms |" in page.part_of(text, "figures")

    def test_requires_each_part(self, path: Path):
        path.write_text("Nothing.")

        with pytest.raises(ValueError, match="no part 'ratios'"):
            page.write(path)


class TestARatio:
    @pytest.mark.parametrize(("value", "verdict"), [(1.4, "reached"), (1.6, "**missed**")])
    def test_states_whether_its_target_is_reached(self, value, verdict):
        shown = page.parts(found(emit=row(key="emit_vs_insert", value=value, at_most=1.5)))

        line = shown["ratios"].splitlines()[-1]
        assert line == f"| emit | `emit_vs_insert` | {value}, {verdict} | at most 1.5 |"

    def test_of_a_row_that_failed_is_missed(self):
        shown = page.parts(found(emit={"target": "to be quick", "error": "no disk"}))

        assert shown["ratios"].splitlines()[-1] == "| emit | failed | **missed** | to be quick |"


class TestAnAim:
    @pytest.mark.parametrize(("value", "verdict"), [(1.2, "reached"), (1.3, "**missed**")])
    def test_has_a_verdict_beside_that_of_the_target(self, value, verdict):
        shown = page.parts(found(emit=row(key="emit_vs_insert", value=value, at_most=1.5)))

        line = f"| `emit_vs_insert` | at most 1.2 | {value}, {verdict} |"
        assert line in shown["aims"].splitlines()

    def test_of_a_figure_in_bytes_is_that_of_its_median(self):
        figures = figure("per event, emit()", 900, 940, 1000, unit="bytes")

        shown = page.parts(found(storage=row(figures)))

        line = "| `per event, emit()` | at most 947 | 940, reached |"
        assert line in shown["aims"].splitlines()

    def test_that_was_not_measured_is_shown_so(self):
        line = "| `chain_vs_hop` | at most 7 | not measured |"
        assert line in page.parts(found())["aims"].splitlines()

    def test_is_not_reliable_beside_other_programs(self):
        busy = {**row(key="emit_vs_insert", value=1.3, at_most=1.5), "foreign": 0.5}

        line = "| `emit_vs_insert` | at most 1.2 | 1.3, not reliable |"
        assert line in page.parts(found(emit=busy))["aims"].splitlines()


class TestProcessors:
    def test_have_a_column_each(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        newest, older = (
            found(drain=row(figure("outbox", number), key="drain", value=number, at_least=5))
            for number in (4, 6)
        )
        newest["machine"] = {"processor": "2 x fast", "when": "2026-02-01"}
        older["machine"] = {"processor": "2 x slow", "when": "2026-01-01"}
        monkeypatch.setattr(report, "LATEST", tmp_path / "latest.json")
        monkeypatch.setattr(report, "PART", tmp_path / "part.json")
        monkeypatch.setattr(report, "PROCESSORS", tmp_path / "processors")
        for run in (older, newest):
            report.PART.write_text(json.dumps(run))
            report.keep()

        shown = page.parts(*page.results())

        assert "| row | what | 2 x fast | 2 x slow |" in shown["figures"]
        assert "| drain | outbox | 4 ms | 6 ms |" in shown["figures"]
        last = shown["ratios"].splitlines()[-1]
        assert last == "| drain | `drain` | 4, **missed** | 6, reached | at least 5 |"


class TestAnUpdate:
    @pytest.fixture
    def latest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The latest run, of the rows drain and emit."""
        for name in ("LATEST", "PART"):
            monkeypatch.setattr(report, name, tmp_path / f"{name}.json")
        monkeypatch.setattr(report, "PROCESSORS", tmp_path / "processors")
        self.write(report.LATEST, drain_vs_celery=4, drain=figure("outbox", 4), emit=figure("a", 1))
        return report.LATEST

    def write(
        self, path: Path, *, drain_vs_celery: float, processor: str = "one", **rows: dict[str, Any]
    ) -> None:
        run = found(**{name: row(one) for name, one in rows.items()})
        run["machine"] = {"processor": processor, "when": "2026-01-01"}
        run |= dict.fromkeys(report.KEYS) | {"drain_vs_celery": drain_vs_celery}
        path.write_text(json.dumps(run))

    def test_replaces_the_measured_rows(self, latest: Path):
        self.write(report.PART, drain_vs_celery=6, drain=figure("outbox", 6))

        report.update()

        run = json.loads(latest.read_text())
        assert run["drain_vs_celery"] == 6
        assert run["rows"]["drain"]["figures"][0]["values"] == [6]
        assert run["rows"]["drain"]["when"] == "2026-01-01"
        assert run["rows"]["emit"]["figures"][0]["values"] == [1]

    def test_of_another_processor_writes_nothing(self, latest: Path):
        before = latest.read_text()
        self.write(report.PART, drain_vs_celery=6, processor="other", drain=figure("outbox", 6))

        with pytest.raises(ValueError, match="No run of all rows on other is stored"):
            report.update()

        assert latest.read_text() == before

    def test_of_another_processor_replaces_rows_of_its_own_run(self, latest: Path):
        """Failed: only rows of the latest run could be replaced."""
        before = latest.read_text()
        report.PROCESSORS.mkdir()
        own = report.PROCESSORS / "other.json"
        self.write(own, drain_vs_celery=4, processor="other", drain=figure("outbox", 4))
        self.write(report.PART, drain_vs_celery=6, processor="other", drain=figure("outbox", 6))

        report.update()

        assert json.loads(own.read_text())["drain_vs_celery"] == 6
        assert latest.read_text() == before


class TestALongRun:
    def test_has_a_line_for_each_minute(self):
        one = row(
            figure("p99, by the minute", 7, 8),
            figure("relay, by the minute", 90, 91, 92, unit="MiB"),
        )
        shown = page.parts(found(hour={**one, "notes": ["A note."]}))["minutes"].splitlines()

        assert shown[0] == "`hour`, 2 x one. A note."
        assert shown[2] == "| minute | p99, ms | relay, MiB |"
        assert shown[4:7] == ["| 0 |  | 90 |", "| 1 | 7 | 91 |", "| 2 | 8 | 92 |"]


class TestSizing:
    def test_adds_up_the_cost_of_an_order(self):
        rows = {
            "emit": row(figure("emit() adds", 0.5)),
            "drain": row(figure("outbox", 3_400)),
            "storage": row(
                figure("per event, emit()", 1_000),
                figure("per delivery, relayed and handled", 2_000),
                figure("stored: outbox_event", 1_000),
                figure("stored: outbox_delivery", 1_000),
            ),
        }

        a_hundred = sizing.table(rows).splitlines()[2]

        # 10 events of half a millisecond, and 17 deliveries of which 3,400 keep two cores busy.
        assert a_hundred == "| 100 | 17 | 28 | 0.025 | 0.1 MB/s | 3.9 GB |"

    def test_names_missing_measurements(self):
        assert "outbox of drain" in sizing.table({"emit": row(figure("emit() adds", 0.5))})


PARTS = ("ratios", "aims", "figures", "sizing", "minutes")

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
        assert line == f"| emit | `emit_vs_insert` | {value} |  | at most 1.5 | {verdict} |"

    def test_of_a_row_that_failed_is_missed(self):
        shown = page.parts(found(emit={"target": "to be quick", "error": "no disk"}))

        assert shown["ratios"].splitlines()[-1].endswith("| **missed** |")


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


PARTS = ("ratios", "figures", "sizing")

"""The board and the alert rules in docs/monitoring/ match the real page `/metrics`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from outbox.management.cli import SUBCOMMANDS
from outbox.metrics import Family, families
from outbox.models import Heartbeat, Subscription
from outbox.relay.passes import relay_pass
from outbox.relay.publishing import BrokerUnavailable
from outbox.subscriptions import registry
from outbox.testing import Outbox
from outbox.transports.base import NUDGES
from shop.metrics import families as families_of_the_shop
from shop.models import Reconciliation
from tests.docs.pages import ROOT, Page, names_in
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place

FOLDER = ROOT / "docs/monitoring"
RULE_FILES = [FOLDER / "alerts.yaml", FOLDER / "shop-alerts.yaml"]
UNIT_TESTS = ROOT / "tests/docs/alerts.test.yaml"

#: Labels that Prometheus adds to each series of a target.
OF_THE_TARGET = {"job", "instance"}
#: The label that metrics of the outbox have besides, if the project has several databases.
OF_SEVERAL_DATABASES = {"database"}
GRID_WIDTH = 24

SELECTOR = re.compile(r"\b((?:outbox|shop)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\bby \(([^)]*)\)")
#: The aggregation of a metric or of its rate: operator, labels and metric.
INNERMOST = re.compile(r"\b(max|min|sum)(?: by \(([^)]*)\) )?\((?:rate\()?(outbox_\w+)")
#: The longest time of all databases: no number is lost.
LONGEST = re.compile(r"max outbox_\w+_seconds")
COMMAND = re.compile(r"`manage\.py outbox ([\w-]+)")

SOURCES = {
    "billing": {
        "BACKEND": "tests.outbox.sources.messages.NoSource",
        "TOPICS": ["invoices"],
        "GROUP": "shop",
    }
}

Sample = tuple[str, dict[str, str], float]


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
    return found


def panels() -> Iterator[dict[str, Any]]:
    """Yield all panels, also those in collapsed rows."""
    for panel in board()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def board_queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def rules() -> list[dict[str, Any]]:
    """Return the rules of both files."""
    groups = [group for path in RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def unit_tests() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    return found


def input_series() -> list[str]:
    return [one["series"] for test in unit_tests() for one in test.get("input_series", ())]


def documented(page: str, heading: str) -> dict[str, tuple[str, str]]:
    """Return kind and labels of the metrics in a table, by their names."""
    rows = Page(page).table(heading)
    return {names_in(row[0])[0]: (row[1], row[2]) for row in rows}


def declared(found: Iterable[Family]) -> dict[str, tuple[str, str]]:
    return {one.name: (one.kind, ", ".join(one.labels)) for one in found}


def refuse(message: object) -> None:
    raise ConnectionError


@pytest.fixture
def page(outbox: Outbox, settings: Settings, client: Client) -> list[Metric]:
    """Scrape `/metrics` of the shop after an order, a broker failure and a reconciliation."""
    # The shop has no source. A source of this test lets the page have the metrics of sources.
    settings.OUTBOX = {**settings.OUTBOX, "METRICS_TOKEN": "token", "SOURCES": SOURCES}
    put_on_sale("TEA", units=5)
    place(sku="TEA")
    outbox.deliver_all(only="inventory")
    with pytest.raises(BrokerUnavailable):
        relay_pass(publish=refuse)
    # The shop has no sink. The metric of settlements shows the consumers of any subscription.
    Subscription.objects.filter(handler="orders.record_stock_reserved").update(consumers="billing")
    Reconciliation.objects.create(
        checked_at=timezone.now(), seconds=1, balanced=True, differences=0, unsettled=0, report={}
    )
    # Nudges are a queue of the metrics only while they are refused.
    now = timezone.now()
    one = {"cause": "refused", "since": now.isoformat(), "latest": now.isoformat()}
    Heartbeat.objects.create(
        kind="sender", name="host.7/1", refused={NUDGES: one}, started_at=now, seen_at=now
    )
    answer = client.get("/metrics", headers={"authorization": "Bearer token"})
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.content.decode()))


@pytest.fixture
def samples(page: list[Metric]) -> list[Sample]:
    return [(one.name, one.labels, one.value) for metric in page for one in metric.samples]


def faults(query: str, samples: list[Sample]) -> Iterator[str]:
    """Yield the metrics, labels and label values of a query that the page does not have."""
    grouping = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    for name, matchers in SELECTOR.findall(query):
        series = [labels for found, labels, _value in samples if found == name]
        if not series:
            yield f"{name} is not on the page"
            continue
        for label in grouping - OF_THE_TARGET - OF_SEVERAL_DATABASES:
            if label not in series[0]:
                yield f"{name} has no label {label}"
        for label, value in MATCHER.findall(matchers):
            known = {labels.get(label) for labels in series}
            for one in value.split("|") if label not in OF_THE_TARGET else ():
                if one not in known and not (one.startswith("$") and None not in known):
                    yield f"{name} has no {label} {one}"


class TestTheMetrics:
    def test_of_the_board_are_on_the_page(self, samples: list[Sample]):
        """Names, labels and label values. Seen to fail with a wrong one of each."""
        assert {
            query: found for query in board_queries() if (found := [*faults(query, samples)])
        } == {}

    def test_of_the_variables_are_on_the_page(self, samples: list[Sample]):
        variables = [one for one in board()["templating"]["list"] if one["type"] == "query"]

        for variable in variables:
            query = variable["query"]["query"]
            label = re.fullmatch(r"label_values\(.*, (\w+)\)", query)
            assert label, query
            grouped = f"by ({label[1]}) ({query})"
            assert [*faults(grouped, samples)] == []

    def test_of_the_rules_are_on_the_page(self, samples: list[Sample]):
        assert {
            rule["alert"]: found for rule in rules() if (found := [*faults(rule["expr"], samples)])
        } == {}

    def test_of_the_unit_tests_are_on_the_page(self, samples: list[Sample]):
        added = OF_THE_TARGET | OF_SEVERAL_DATABASES
        labels = {name: {*labels, *added} for name, labels, _value in samples}

        for series in input_series():
            ((name, matchers),) = SELECTOR.findall(series)
            assert {label for label, _value in MATCHER.findall(matchers)} <= labels[name]

    def test_are_all_documented(self, page: list[Metric]):
        ours = documented("docs/reference/metrics.md", "Metrics of the outbox")
        of_the_shop = documented("docs/how-to/monitor.md", "Metrics")

        assert ours == declared(families())
        assert of_the_shop == declared(families_of_the_shop())
        assert {metric.name for metric in page} == {*ours, *of_the_shop}

    def test_have_a_description_in_one_sentence(self, page: list[Metric]):
        for metric in page:
            assert re.fullmatch(r"[A-Z0-9].*\.", metric.documentation), metric.name

    def test_have_a_lease_for_each_active_handler(self, samples: list[Sample]):
        """Without one, the rule of overdue deliveries would leave the handler out."""
        active = Subscription.objects.filter(active=True).values_list("handler", flat=True)

        leases = [
            labels["handler"] for name, labels, _ in samples if name.endswith("lease_seconds")
        ]

        assert set(leases) == set(active)


class TestTheBoard:
    def test_names_no_handler_event_or_queue(self):
        """It suits every project. So do the rules of the outbox."""
        names = {name for handler in registry for name in (handler.name, *handler.events)}
        queues = {handler.queue for handler in registry} - {"outbox"}

        for path in (FOLDER / "grafana.json", FOLDER / "alerts.yaml"):
            words = set(re.findall(r"[\w.]+", path.read_text()))
            assert not words & (names | queues)

    def test_uses_only_its_variables(self):
        declared = {variable["name"] for variable in board()["templating"]["list"]}
        text = (FOLDER / "grafana.json").read_text()

        used = set(re.findall(r"\$\{?(\w+)", text))

        assert used - {"__rate_interval", "__all"} == declared
        assert {panel["repeat"] for panel in panels() if "repeat" in panel} == {"handler"}

    def test_adds_up_the_numbers_of_several_databases(self):
        """Failed: the maximum over the instances was one over the databases, too."""
        for query in board_queries():
            aggregations = INNERMOST.findall(query)

            assert aggregations, query
            for operator, labels, metric in aggregations:
                keeps = "database" in labels.split(", ")
                assert keeps or LONGEST.fullmatch(f"{operator} {metric}"), query

    def test_has_panels_with_an_id_a_data_source_and_queries(self):
        found = [panel for panel in panels() if panel["type"] != "row"]
        ids = [panel["id"] for panel in panels()]

        assert len(ids) == len(set(ids))
        for panel in found:
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            letters = [target["refId"] for target in panel["targets"]]
            assert letters == sorted(set(letters))
            assert panel["title"]
            assert panel["description"].endswith(".")

    def test_has_panels_that_do_not_overlap(self):
        taken: set[tuple[int, int]] = set()
        for panel in panels():
            at = panel["gridPos"]
            mine = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not mine & taken, panel["title"]
            assert max(x for x, _y in mine) < GRID_WIDTH
            taken |= mine

    def test_has_queries_that_prometheus_answers_from_the_page(
        self, samples: list[Sample], tmp_path: Path
    ):
        """Seen to fail with a division of series that have different labels."""
        series = [_as_series(one) for one in samples]
        tests = [
            {"expr": f"count(({query}) >= 0) > bool 0", "eval_time": "20m"} for query in filled()
        ]
        expected = [{"labels": "{}", "value": 1}]
        content = {
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": series,
                    "promql_expr_test": [{**test, "exp_samples": expected} for test in tests],
                }
            ],
        }
        (tmp_path / "test.yaml").write_text(json.dumps(content))

        run_promtool("test", "rules", str(tmp_path / "test.yaml"))


class TestTheRules:
    def test_have_all_parts(self):
        for rule in rules():
            assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
            assert rule["labels"].keys() == {"severity"}
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert rule["annotations"].keys() == {"summary", "description"}
            assert all(text.endswith((".", "}}.")) for text in rule["annotations"].values())

    def test_have_unique_names(self):
        names = [rule["alert"] for rule in rules()]

        assert len(names) == len(set(names))

    def test_keep_the_jobs_apart(self):
        """Several projects may have one Prometheus."""
        for rule in rules():
            if not rule["expr"].startswith("absent("):
                groups = GROUPING.findall(rule["expr"])
                assert groups
                assert all("job" in group.split(", ") for group in groups), rule["alert"]

    def test_keep_the_databases_apart(self):
        """Failed: the heartbeat of one database hid that another one had none."""
        for rule in rules():
            if "outbox_" in rule["expr"] and not rule["expr"].startswith("absent("):
                groups = GROUPING.findall(rule["expr"])
                assert all("database" in group.split(", ") for group in groups), rule["alert"]

    def test_advise_commands_that_exist(self):
        texts = [text for rule in rules() for text in rule["annotations"].values()]
        named = {name for text in texts for name in COMMAND.findall(text)}

        assert named
        assert named <= set(SUBCOMMANDS)

    def test_do_not_advise_to_resume_a_handler_that_its_backfill_holds(self):
        (rule,) = [one for one in rules() if one["alert"] == "OutboxHandlerPaused"]
        advice = rule["annotations"]["description"]

        assert "do not resume" in advice
        assert "continue" in advice

    def test_all_fire_in_a_unit_test(self):
        fired = re.findall(r'ALERTS\{alertname="(\w+)"', UNIT_TESTS.read_text())

        assert set(fired) == {rule["alert"] for rule in rules()}

    def test_are_accepted_by_prometheus(self):
        run_promtool("check", "rules", "--lint-fatal", *map(str, RULE_FILES))

    def test_fire_and_stay_silent_as_the_unit_tests_expect(self):
        run_promtool("test", "rules", str(UNIT_TESTS))


def filled() -> list[str]:
    """Return the board's queries with values in place of its variables."""
    values = {"$job": "shop", "$handler": ".*", "$__rate_interval": "5m"}
    return [re.sub(r"\$\w+", lambda match: values[match[0]], query) for query in board_queries()]


def _as_series(sample: Sample) -> dict[str, str]:
    """Return a sample as an input series of promtool: a gauge stays, a counter grows."""
    name, labels, value = sample
    pairs = ",".join(f"{key}={json.dumps(text)}" for key, text in {**labels, "job": "shop"}.items())
    grows = name.endswith(("_total", "_bucket", "_sum", "_count"))
    values = " ".join(["+Inf"] * 21) if value == float("inf") else f"{value}{'+1' * grows}x20"
    return {"series": f"{name}{{{pairs}}}", "values": values}


def run_promtool(*arguments: str) -> None:
    """Run Prometheus's own checker, of the package promtool (Debian 12: prometheus)."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip(
            "promtool is not installed (Debian 13: apt-get install promtool, Debian 12: prometheus)"
        )
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

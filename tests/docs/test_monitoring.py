"""What docs/monitoring/ holds is what the commands write, and Prometheus takes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command

from outbox.metrics import families
from outbox.metrics.alerts import alert_rules
from outbox.metrics.grafana import grafana_board
from outbox.subscriptions import Handler, registry
from tests.docs.pages import ROOT, Page, names_in

FOLDER = ROOT / "docs/monitoring"
#: Those of the shop; an app that a team adds is in what the commands write for them.
APPS = {"orders", "inventory", "payments", "notifications", "webhooks"}
BOOKS = {
    "shop_books_balanced",
    "shop_books_differences",
    "shop_books_checked_timestamp_seconds",
}


def own_handlers() -> list[Handler]:
    return [handler for handler in registry if handler.app_label in APPS]


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("outbox", *arguments, stdout=out)
    return out.getvalue()


def expressions() -> list[str]:
    board = json.loads(grafana_board(registry))
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    return [target["expr"] for target in targets] + [rule["expr"] for rule in rules()]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(alert_rules(registry))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


class TestTheCopies:
    def test_are_what_the_commands_write(self):
        """After a change of handlers: `manage.py outbox grafana > docs/monitoring/grafana.json`."""
        assert (FOLDER / "grafana.json").read_text() == grafana_board(own_handlers())
        assert (FOLDER / "alerts.yaml").read_text() == alert_rules(own_handlers())

    def test_come_from_the_commands(self):
        assert told("grafana").rstrip() == grafana_board(registry).rstrip()
        assert told("alerts", "--age", "60").rstrip() == alert_rules(registry, age=60).rstrip()


class TestTheRules:
    def test_know_each_handler_and_each_queue(self):
        wanted = {handler.name for handler in registry}
        queues = {handler.queue for handler in registry} | {"outbox"}

        text = alert_rules(registry)

        assert set(re.findall(r'handler=\\"([\w.]+)\\"', text)) == wanted
        assert set(re.findall(r'queue=\\"([\w.]+)\\"', text)) == queues

    def test_wait_for_longer_where_a_lease_is_longer(self):
        handler = max(registry, key=lambda one: one.lease)

        (rule,) = [one for one in rules() if f'"{handler.name}"' in one["expr"]]

        assert rule["expr"].endswith(f"> {300 + handler.lease:g}")

    def test_are_taken_by_prometheus(self, tmp_path: Path):
        (tmp_path / "rules.yaml").write_text(alert_rules(registry))

        checked = subprocess.run(
            [promtool(), "check", "rules", str(tmp_path / "rules.yaml")],
            capture_output=True,
            text=True,
            check=False,
        )

        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert f"{len(rules())} rules found" in checked.stdout

    def test_fire_when_they_should(self, tmp_path: Path):
        """Prometheus's own test of rules, on series as `/metrics` tells them."""
        (tmp_path / "rules.yaml").write_text(alert_rules(registry))
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(UNIT_TEST))

        checked = subprocess.run(
            [promtool(), "test", "rules", str(tmp_path / "test.yaml")],
            capture_output=True,
            text=True,
            check=False,
        )

        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.django_db
class TestTheMetrics:
    def test_that_boards_and_rules_ask_for_are_told(self):
        known = {family.name for family in families()} | BOOKS

        asked = {
            name for text in expressions() for name in re.findall(r"\b(?:outbox|shop)_\w+", text)
        }

        assert {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked} <= known

    def test_are_all_explained(self):
        table = Page("docs/how-to/monitor.md").table("Metrics")

        shown = {names_in(row[0])[0]: (row[1], row[2]) for row in table}

        told = {one.name: (one.kind, ", ".join(one.labels)) for one in families()}
        assert {name: shown[name] for name in shown if name not in BOOKS} == told
        assert set(shown) - set(told) == BOOKS


def _owed(handler: str, state: str, age: str) -> dict[str, str]:
    series = f'outbox_oldest_owed_seconds{{handler="{handler}",state="{state}"}}'
    return {"series": series, "values": age}


UNIT_TEST: dict[str, Any] = {
    "rule_files": ["rules.yaml"],
    "evaluation_interval": "1m",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": "outbox_waiting_events", "values": "0x20"},
                {"series": 'outbox_last_seen_seconds{part="relay"}', "values": "5x20"},
                {
                    "series": 'outbox_last_seen_seconds{part="beat"}',
                    "values": " ".join(["+Inf"] * 21),
                },
                {"series": 'outbox_worker_last_seen_seconds{queue="inventory"}', "values": "90x20"},
                {"series": 'outbox_worker_last_seen_seconds{queue="orders"}', "values": "9x20"},
                # A dead one is a ticket, and no reason to page for its age as well.
                _owed("orders.record_stock_reserved", "dead", "99999x20"),
                _owed("inventory.reserve_stock", "pending", "5000x20"),
            ],
            "alert_rule_test": [
                {"eval_time": "5m", "alertname": "OutboxMetricsMissing", "exp_alerts": []},
                {
                    "eval_time": "5m",
                    "alertname": "OutboxPartNotSeen",
                    "exp_alerts": [
                        {
                            "exp_labels": {"part": "beat", "severity": "page"},
                            "exp_annotations": {
                                "summary": "beat was not seen for +Inf.",
                                "description": "Start it; while the relay is away, nothing "
                                "is sent.",
                            },
                        }
                    ],
                },
                {
                    "eval_time": "5m",
                    "alertname": "OutboxQueueWithoutWorker",
                    "exp_alerts": [
                        {
                            "exp_labels": {"queue": "inventory", "severity": "page"},
                            "exp_annotations": {
                                "summary": "No worker of the queue inventory was seen for "
                                "a minute.",
                                "description": "Start a Celery worker with -Q inventory.",
                            },
                        }
                    ],
                },
                {
                    "eval_time": "5m",
                    "alertname": "OutboxOwedForLong",
                    "exp_alerts": [
                        {
                            "exp_labels": {
                                "handler": "inventory.reserve_stock",
                                "severity": "page",
                            },
                            "exp_annotations": {
                                "summary": "inventory.reserve_stock is owed an event that is "
                                "1h 23m 20s old.",
                                "description": "manage.py outbox status; then why, of one of its "
                                "deliveries.",
                            },
                        }
                    ],
                },
            ],
        }
    ],
}


def promtool() -> str:
    """Return Prometheus's own checker: Debian's package `promtool`, downloaded if need be."""
    return shutil.which("promtool") or _downloaded() or _missing()


def _downloaded() -> str:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shop-promtool"
    program = folder / "usr/bin/promtool"
    if not program.exists() and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        folder.mkdir(parents=True, exist_ok=True)
        fetch = subprocess.run(
            ["apt-get", "download", "-qq", "promtool"], cwd=folder, capture_output=True, check=False
        )
        for package in folder.glob("promtool_*.deb") if fetch.returncode == 0 else ():
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=False)
    return str(program) if program.exists() else ""


def _missing() -> str:
    pytest.skip("promtool is not on the PATH, and apt-get cannot download it here")

"""The how-to pages of NATS, SNS and SQS: their scripts run, and their settings create sinks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.utils.module_loading import import_string

from tests.servers.aws import AwsServer
from tests.servers.nats import NatsServer

pytestmark = pytest.mark.once

PAGES = Path(__file__).resolve().parents[3] / "docs/how-to"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script_and_sinks(page: str) -> tuple[str, dict[str, Any]]:
    """Return the script of a page, and the sinks in its settings."""
    script, settings = PYTHON.findall((PAGES / page).read_text())
    names: dict[str, Any] = {}
    exec(settings, names)
    return script, names["OUTBOX"]["SINKS"]


def run(script: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestThePageOfNats:
    def test_creates_a_stream_for_the_subjects_of_its_sink(self, tmp_path: Path):
        script, sinks = script_and_sinks("publish-to-nats.md")
        with NatsServer(tmp_path) as server:
            run(script, NATS_URL=server.url)
            sink = import_string(sinks["audit"]["BACKEND"])("audit", {"servers": server.url})

            problems = sink.check(["shop.orders.OrderPlaced.*"], timeout=30)
            sink.close()

        assert sinks["audit"]["TOPIC"] == "shop.{app}.{event}.{key}"
        assert problems == []


class TestThePageOfSnsAndSqs:
    def test_creates_the_topic_and_the_queue_of_its_sinks(self, aws: AwsServer):
        script, sinks = script_and_sinks("publish-to-sns-and-sqs.md")

        topic = run(script, AWS_URL=aws.url)

        assert topic == sinks["partners"]["TOPIC"]
        for name, given in sinks.items():
            sink = import_string(given["BACKEND"])(name, {**given["OPTIONS"], **aws.options})
            assert sink.check([given["TOPIC"]], timeout=30) == []
            sink.close()

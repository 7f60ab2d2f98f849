"""`make up` receives the sources that are configured."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings as configured

from shop.up.console import Console
from shop.up.processes import Process
from shop.up.programs import Project
from shop.up.stack import Options, _workers
from tests.closed_port import HOST, port_of_nobody
from tests.processes import eventually

pytestmark = pytest.mark.once


@pytest.fixture
def names():
    project = Project(root=Path(), environment={}, worker_grace=1.0)
    return lambda: [one.name for one in _workers(Options(data=Path()), project)]


class TestMakeUp:
    def test_starts_no_receiver_without_sources(self, names):
        assert "receive" not in names()

    def test_starts_a_receiver_for_sources_that_are_pulled(self, names, settings):
        pulled = {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": ["invoices"],
            "GROUP": "shop",
        }
        settings.OUTBOX = {"SOURCES": {"billing": pulled}}

        assert "receive" in names()

    def test_starts_none_for_a_source_that_is_called(self, names, settings):
        called = {"BACKEND": "outbox.sources.http.HttpSource", "OPTIONS": {"SECRETS": ["x"]}}
        settings.OUTBOX = {"SOURCES": {"billing": called}}

        assert "receive" not in names()


@pytest.mark.processes
@pytest.mark.skipif(find_spec("confluent_kafka") is None, reason="confluent-kafka is missing.")
class TestTheReceiver:
    @pytest.mark.parametrize("language", [code for code, _name in configured.LANGUAGES])
    def test_is_ready_in_each_language_of_the_shop(self, tmp_path: Path, language: str):
        """Failed for Japanese: the probe waited for the English line."""
        billing = {
            "BACKEND": "outbox.sources.kafka.KafkaSource",
            "TOPICS": ["invoices"],
            "GROUP": "shop",
            "OPTIONS": {"bootstrap.servers": f"{HOST}:{port_of_nobody()}"},
        }
        environment = {
            "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
            "LANGUAGE_CODE": language,
            "OUTBOX": json.dumps({"SOURCES": {"billing": billing}}),
            "SHOP_LOCAL_DIR": str(tmp_path),
        }
        project = Project(root=configured.BASE_DIR, environment=environment, worker_grace=1.0)

        output = io.StringIO()
        receiver = Process(project.receiver(), Console(output))

        try:
            eventually(
                lambda: receiver.is_ready() or receiver.exit_code is not None,
                "the receiver is ready",
            )
            assert receiver.is_ready(), output.getvalue()
        finally:
            receiver.clear()

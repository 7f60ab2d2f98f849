"""The tutorial with two shops works as written: both are started with `make up`'s command."""

from __future__ import annotations

import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, Page
from tests.processes import NOTHING_GIVEN, Running, eventually
from tests.servers.kafka import VARIABLE, KafkaServer
from tests.servers.server import ServerMissing
from tests.smoke_up import ask, place_an_order

PAGE = Page("docs/how-to/connect-two-shops.md")
CEILING = 180.0  # seconds; reaching it is a failure, not a measurement

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.timeout(900)]


class Shops:
    """The two shops of the page, with their data and code in a temporary folder."""

    def __init__(self, folder: Path, kafka: KafkaServer) -> None:
        self._folder = folder
        self._variables = {
            **NOTHING_GIVEN,
            "KAFKA": kafka.bootstrap_servers,
            "PYTHONPATH": str(folder),
            "PYTHONUNBUFFERED": "1",
            "API_RATE_USER": "1000000/min",  # the test asks again and again
        }
        self._running: list[Running] = []

    def start(self, name: str) -> Running:
        """Start a shop by the page's command, on a free port and with data of its own."""
        assert f"DJANGO_SETTINGS_MODULE={name}.settings make up" in PAGE.text
        data = str(self._data(name))
        command = ["manage.py", "up", "--no-reload", "--port", "0", "--data", data]
        variables = {**self._variables, "DJANGO_SETTINGS_MODULE": f"{name}.settings"}
        up = Running([sys.executable, *command], environment=variables, folder=ROOT)
        self._running.append(up)
        return up

    def why(self, name: str, order_id: str) -> str:
        """Return the output of the page's command `outbox why`."""
        assert "manage.py outbox why ORDER_ID --all" in PAGE.text
        variables = {
            **self._variables,
            "DJANGO_SETTINGS_MODULE": f"{name}.settings",
            "SHOP_LOCAL_DIR": str(self._data(name)),
        }
        command = [sys.executable, "manage.py", "outbox", "why", order_id, "--all"]
        asked = Running(command, environment=variables, folder=ROOT)
        try:
            asked.ends(within=CEILING)
        finally:
            asked.end_for_sure()
        return asked.output

    def stop(self) -> None:
        for one in self._running:
            one.end_for_sure()

    def _data(self, name: str) -> Path:
        return self._folder / "data" / name


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shops]:
    monkeypatch.delenv(VARIABLE, raising=False)  # the topics of the page have fixed names
    try:
        kafka = KafkaServer(tmp_path / "kafka")
    except ServerMissing as error:
        pytest.skip(str(error))
    for name, text in PAGE.files().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    with kafka:
        monkeypatch.setenv("KAFKA", kafka.bootstrap_servers)
        runpy.run_path(str(tmp_path / "create_topics.py"))
        shops = Shops(tmp_path, kafka)
        try:
            yield shops
        finally:
            shops.stop()


def until_ready_to_ship(up: Running, order: dict[str, Any]) -> None:
    def is_ready() -> bool:
        return bool(ask(up, f"/api/orders/{order['id']}/")["status"] == "ready_to_ship")

    eventually(is_ready, "the order is ready to ship", within=CEILING)


def until_wholesale_is(state: str, up: Running, order: dict[str, Any]) -> None:
    """Wait until the timeline of the order shows this state of its settlement by wholesale."""

    def shown() -> list[tuple[str, str]]:
        events = ask(up, f"/api/orders/{order['id']}/timeline/")["results"]
        deliveries = [delivery for event in events for delivery in event["deliveries"]]
        return [(one["consumer"], one["state"]) for row in deliveries for one in row["settlements"]]

    eventually(lambda: shown() == [("wholesale", state)], f"wholesale: {state}", within=CEILING)


class TestTheTutorial:
    def test_works_as_written(self, shops: Shops):
        retail, wholesale = shops.start("retail"), shops.start("wholesale")
        for up in (retail, wholesale):
            up.says("^Ctrl-C stops everything", within=CEILING)

        first = place_an_order(retail)
        until_wholesale_is("settled", retail, first)
        assert "wholesale.request_goods" in shops.why("wholesale", first["id"])
        assert "wholesale: done after" in shops.why("retail", first["id"])

        wholesale.send(signal.SIGINT)
        assert wholesale.ends(within=CEILING) == 0, wholesale.output
        second = place_an_order(retail)
        # First, since the settlement is open for some minutes only.
        until_wholesale_is("open", retail, second)
        assert "wholesale: settlement " in shops.why("retail", second["id"])  # due in 50 s
        until_ready_to_ship(retail, second)

        shops.start("wholesale")
        until_wholesale_is("settled", retail, second)

"""The carrier of the demo, as a real process beside a real server of Kafka."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from shop.demo.world import kafka
from shop.up.ports import HOST, free_port
from tests.processes import Running, eventually

confluent_kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed.")

SCRIPT = Path(kafka.__file__).with_name("carrier.py")
pytestmark = [pytest.mark.once, pytest.mark.processes]

#: A carrier that commits its offsets only if it ends in order. The usual commit, of every five
#: seconds, may come before a busy machine kills it.
WITHOUT_COMMITS = f"""
import runpy
import confluent_kafka
consumer = confluent_kafka.Consumer
a_day = {{"auto.commit.interval.ms": 24 * 3600 * 1000}}
confluent_kafka.Consumer = lambda options: consumer({{**options, **a_day}})
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of its own: the topics of the demo have fixed names."""
    port = free_port()
    try:
        server = kafka.server(port=port, data=tmp_path / "kafka")
    except kafka.KafkaMissing as error:
        pytest.skip(str(error))
    running = Running(server.command)
    try:
        eventually(lambda: kafka.has_topics(f"{HOST}:{port}"), "Kafka has the topics")
        yield f"{HOST}:{port}"
    finally:
        running.end_for_sure()


@pytest.fixture
def start(address: str) -> Iterator[Callable[..., Running]]:
    """Start a carrier; all of them end with the test."""
    started: list[Running] = []

    def start(*program: str) -> Running:
        environment = {"KAFKA": address, "DJANGO_SETTINGS_MODULE": None}
        command = [sys.executable, *(program or [str(SCRIPT)])]
        started.append(Running(command, environment=environment))
        return started[-1]

    yield start
    for one in started:
        one.end_for_sure()


def publish(address: str, order_id: str, *, type: str = "orders.OrderReadyToShip.v1") -> str:
    """Publish an event as the shop's sink does; return its id."""
    event_id = str(uuid4())
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    producer.produce(
        kafka.ORDERS,
        key=order_id,
        value=json.dumps({"order_id": order_id}),
        headers={"ce_id": event_id, "ce_type": type, "ce_correlationid": str(uuid4())},
    )
    assert producer.flush(30) == 0
    return event_id


class TestTheCarrier:
    def test_answers_an_order_that_is_ready_to_ship_and_reports_all(self, address: str, start):
        publish(address, "placed", type="orders.OrderPlaced.v1")
        publish(address, "ready")

        start().says("Booked EP[0-9]{10} for order ready")

        # Two reports, and one answer.
        eventually(lambda: kafka.messages(address) == 3, "the carrier has answered")

    def test_repeats_its_answer_after_it_was_killed_and_misses_no_order(self, address: str, start):
        publish(address, "first")
        killed = start("-c", WITHOUT_COMMITS)
        booked = killed.says("Booked (EP[0-9]+) for order first")[1]
        eventually(lambda: kafka.messages(address) == 2, "the carrier has answered")
        killed.send(signal.SIGKILL)
        killed.ends()
        publish(address, "second")

        successor = start()

        successor.says("for order second")
        assert successor.says("Booked (EP[0-9]+) for order first")[1] == booked
        eventually(lambda: kafka.messages(address) == 6, "the carrier has answered twice")

    def test_ends_in_order_and_then_repeats_nothing(self, address: str, start):
        publish(address, "first")
        stopped = start()
        eventually(lambda: kafka.messages(address) == 2, "the carrier has answered")

        stopped.send(signal.SIGTERM)

        assert stopped.ends() == 0
        publish(address, "second")
        assert "first" not in start().says("for order .*")[0]
        eventually(lambda: kafka.messages(address) == 4, "the carrier has answered")

    def test_has_answers_that_the_shop_has_not_read(self, address: str, start):
        publish(address, "first")
        start()

        eventually(lambda: kafka.unread(address) == 2, "the carrier has answered")

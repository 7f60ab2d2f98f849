"""A carrier's system. It books a parcel for each order that is ready to ship, and answers by Kafka.

It also reports each event as settled, as the shop's sink expects of its consumers.

It is a program of its own, in one file: no Django, and no code of the shop. Both sides share two
topics and the format of the messages, CloudEvents.

    KAFKA=127.0.0.1:9092 python shop/demo/world/carrier.py
"""

from __future__ import annotations

import json
import logging
import os
import signal
from hashlib import sha256
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer

ORDERS, PARCELS = "shop.orders", "carrier.parcels"
SERVERS = {"bootstrap.servers": os.environ.get("KAFKA", "127.0.0.1:9092")}

log = logging.getLogger("carrier")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    # The order in hand is completed first. Otherwise its answer is repeated after the next start.
    signal.signal(signal.SIGTERM, stop)
    # An offset is stored after the answers are acknowledged, and committed every five seconds. So a
    # killed carrier loses no order. It reads the last ones again and repeats their answers.
    consumer = Consumer(
        {
            **SERVERS,
            "group.id": "carrier",
            "group.instance.id": "carrier-1",  # its successor gets the partitions at once
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
        }
    )
    producer = Producer({**SERVERS, "enable.idempotence": True})
    consumer.subscribe([ORDERS])
    log.info("Waiting for orders.")
    try:
        while not is_stopping:
            message = consumer.poll(1)
            if message is None:
                continue
            if error := message.error():
                log.warning("%s", error)
                continue
            answer(message, producer)
            consumer.store_offsets(message)
    finally:
        consumer.close()


def answer(message: Any, producer: Producer) -> None:
    """Book a parcel if an order is ready to ship, and report every event as settled."""
    event = {name: value.decode() for name, value in message.headers() or ()}
    answers = [settled(event)]
    if event["ce_type"] == "orders.OrderReadyToShip.v1":
        order_id = json.loads(message.value())["order_id"]
        number = tracking_number(event["ce_id"])
        log.info("Booked %s for order %s.", number, order_id)
        answers.insert(0, booked(order_id, number, caused_by=event))
    publish(producer, key=message.key(), events=answers)


def tracking_number(event_id: str) -> str:
    """Return the same number for the same event, so a repeated order books no second parcel."""
    return f"EP{int(sha256(event_id.encode()).hexdigest(), 16) % 10**10:010d}"


def booked(order_id: str, number: str, *, caused_by: dict[str, str]) -> dict[str, object]:
    """Return the answer as a CloudEvent. Its id is the same each time, too."""
    return {
        "specversion": "1.0",
        "id": f"booking-of-{caused_by['ce_id']}",
        "source": "/carrier",
        "type": "com.example.parcel.booked",
        "correlationid": caused_by["ce_correlationid"],
        "causationid": caused_by["ce_id"],
        "data": {"order_id": order_id, "carrier": "Example Parcels", "tracking_number": number},
    }


def settled(event: dict[str, str]) -> dict[str, object]:
    """Return the report that the shop expects of each consumer of its sink.

    Its id has the number of a requested replay, since the shop then misses the first report.
    """
    return {
        "specversion": "1.0",
        "id": f"settlement-of-{event['ce_id']}.{event.get('ce_replay', 0)}",
        "source": "/carrier",
        "type": "outbox.Settled.v1",
        "data": {"event": event["ce_id"], "consumer": "carrier"},
    }


def publish(producer: Producer, *, key: bytes, events: list[dict[str, object]]) -> None:
    """Publish CloudEvents, and wait for their acknowledgements."""
    failures: list[object] = []
    for event in events:
        producer.produce(
            PARCELS,
            key=key,
            value=json.dumps(event),
            headers={"content-type": "application/cloudevents+json"},
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    if producer.flush(30) or failures:
        raise KafkaException(*failures)


if __name__ == "__main__":
    main()

"""The variables of the shop in this demo: its settings, with one sink and one source of Kafka."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from shop.demo.world.kafka import GROUP, ORDERS, PARCELS

SINK = SOURCE = CONSUMER = "carrier"


def prepare(environment: MutableMapping[str, str], *, kafka: str) -> None:
    """Add sink and source to OUTBOX, and choose the settings with the app of the demo.

    Args:
        environment: the variables that the demo has prepared.
        kafka: address of the server, "host:port".
    """
    environment["OUTBOX"] = json.dumps({**json.loads(environment["OUTBOX"]), **connections(kafka)})
    environment["DJANGO_SETTINGS_MODULE"] = "shop.demo.world.settings"


def connections(kafka: str) -> dict[str, Any]:
    """Return the settings of the sink and of the source."""
    options = {"bootstrap.servers": kafka}
    return {
        "SOURCE": "/shop",
        "SINKS": {
            SINK: {
                "BACKEND": "outbox.sinks.kafka.KafkaSink",
                "EVENTS": ["orders.*"],
                "TOPIC": ORDERS,
                "OPTIONS": options,
                "CONSUMERS": [CONSUMER],
            }
        },
        "SOURCES": {
            SOURCE: {
                "BACKEND": "outbox.sources.kafka.KafkaSource",
                "TOPICS": [PARCELS],
                "GROUP": GROUP,
                "OPTIONS": options,
            }
        },
    }

from __future__ import annotations

from kombu import Connection

from outbox.transports.celery_consumer import _virtual_channels
from tests.closed_port import port_of_nobody


class TestALostConnectionToRabbitMQ:
    def test_is_not_reopened_by_reading_its_attributes(self):
        """With the public name, `connection`: refused, and the worker ends."""
        lost = Connection(f"amqp://guest:guest@127.0.0.1:{port_of_nobody()}//", connect_timeout=1)

        assert _virtual_channels(lost) == []

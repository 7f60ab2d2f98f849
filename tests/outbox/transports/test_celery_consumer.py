from __future__ import annotations

from kombu import Connection

from outbox.transports.celery_consumer import _virtual_channels
from tests.closed_port import port_of_nobody


class TestAConnectionToRabbitMQThatIsLost:
    def test_is_not_opened_again_by_a_look_at_it(self):
        """With the public name, `connection`: refused, and the worker ends."""
        lost = Connection(f"amqp://guest:guest@127.0.0.1:{port_of_nobody()}//", connect_timeout=1)

        assert _virtual_channels(lost) == []

from __future__ import annotations

from kombu import Connection

from outbox.engine.consumer import _virtual_channels
from shop.up.ports import free_port


class TestAConnectionToRabbitMQThatIsLost:
    def test_is_not_opened_again_by_a_look_at_it(self):
        """With the public name, `connection`: refused, and the worker ends."""
        lost = Connection(f"amqp://guest:guest@127.0.0.1:{free_port()}//", connect_timeout=1)

        assert _virtual_channels(lost) == []

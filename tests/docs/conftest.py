from __future__ import annotations

from tests.servers.fixtures import rabbitmq, valkey

__all__ = ["rabbitmq", "valkey"]

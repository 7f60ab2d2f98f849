from __future__ import annotations

from tests.servers.fixtures import kafka, rabbitmq, valkey

__all__ = ["kafka", "rabbitmq", "valkey"]

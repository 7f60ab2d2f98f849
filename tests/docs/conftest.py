from __future__ import annotations

from tests.package.conftest import distribution
from tests.servers.fixtures import kafka, rabbitmq, valkey

__all__ = ["distribution", "kafka", "rabbitmq", "valkey"]

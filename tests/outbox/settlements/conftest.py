from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from outbox.sinks import configuration
from tests.outbox.settlements.world import EVENT, configure_sinks, memory_sink
from tests.outbox.sinks.memory import MemorySink


@pytest.fixture
def sink(own_registry: None, settings: Settings) -> Iterator[MemorySink]:
    """The sink "log", whose events "billing" settles within 300 s."""
    configure_sinks(settings, log={"EVENTS": [EVENT], "CONSUMERS": ["billing"]})
    yield memory_sink()
    configuration.close_sinks()

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from outbox.sinks import configuration

PASSWORD = "s3cr3t-of-the-options"


@pytest.fixture
def configure(settings: Settings) -> Iterator[Callable[..., None]]:
    """Return a function that configures a sink with the given keys, besides earlier ones."""
    settings.OUTBOX = {**settings.OUTBOX, "SOURCE": "/parcels", "SINKS": {}}

    def add(name: str = "analytics", **keys: Any) -> None:
        entry = {
            "BACKEND": "tests.outbox.sinks.memory.MemorySink",
            "EVENTS": ["*"],
            **keys,
            "OPTIONS": {"password": PASSWORD, **keys.get("OPTIONS", {})},
        }
        sinks = {**settings.OUTBOX["SINKS"], name: entry}
        settings.OUTBOX = {**settings.OUTBOX, "SINKS": sinks}

    yield add
    configuration.close_sinks()

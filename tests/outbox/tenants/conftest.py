from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from . import hooks

Configure = Callable[..., None]


@pytest.fixture
def configure(settings: Settings) -> Configure:
    """Return a function that sets `OUTBOX["TENANT"]`, with the tests' hooks by default."""

    def set_tenant(**given: Any) -> None:
        settings.OUTBOX = {**settings.OUTBOX, "TENANT": {**hooks.NAMES, **given}}

    return set_tenant


@pytest.fixture
def tenants(configure: Configure) -> None:
    """Turn tenants on, with the tests' hooks."""
    configure()

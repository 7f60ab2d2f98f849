from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.databases import fresh_database
from tests.package.conftest import distribution
from tests.servers.fixtures import kafka, rabbitmq, valkey

__all__ = ["distribution", "kafka", "rabbitmq", "valkey"]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty PostgreSQL. A project's settings have its name, libpq the rest."""
    with fresh_database("postgresql") as url:
        parts = urlsplit(url)
        for name, value in {
            "PGHOST": parts.hostname,
            "PGPORT": parts.port,
            "PGUSER": parts.username,
            "PGPASSWORD": parts.password,
        }.items():
            monkeypatch.setenv(name, str(value or ""))
        yield url

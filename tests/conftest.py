from __future__ import annotations

import pytest

from tests.databases import kind_under_test

pytest_plugins = ["outbox.testing"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is about the other kind of database."""
    kind = kind_under_test()
    for item in items:
        for other in {"sqlite", "postgresql"} - {kind}:
            if item.get_closest_marker(other):
                item.add_marker(pytest.mark.skip(reason=f"is about {other}"))

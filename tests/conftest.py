from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from django.test import TransactionTestCase
from django.utils import translation
from hypothesis import HealthCheck, settings

from tests import fast_flush, forms
from tests.databases import kind_under_test

pytest_plugins = ["outbox.testing"]
fast_flush.install()
forms.install()

# How long an example takes says how busy the machine is.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def no_language_of_another_test() -> Iterator[None]:
    """Deactivate the language that a request of the test activated in this thread."""
    yield
    translation.deactivate()


#: Fixtures of `tests/servers/fixtures.py`.
SERVERS = {"kafka", "aws", "nats", "rabbitmq", "valkey"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of the other database, of other tables, and those that need no second run.

    Mark tests that use a server of `tests/servers/`.
    """
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("servers")
    kind = kind_under_test()
    (other,) = {"sqlite", "postgresql"} - {kind}
    left_out = [
        item
        for item in items
        if item.get_closest_marker(other) or (kind == "postgresql" and _needs_one_run(item))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    _put_long_ones_first(items)


def _put_long_ones_first(items: list[pytest.Item]) -> None:
    """Sort classes: those with a long test by their time limit, then the others by size."""
    sizes = Counter(_class_of(item) for item in items)
    limits: dict[str, float] = {}
    for item in items:
        limits[_class_of(item)] = max(_time_limit(item), limits.get(_class_of(item), 0))
    items.sort(key=lambda item: (-limits[_class_of(item)], -sizes[_class_of(item)]))


def _time_limit(item: pytest.Item) -> float:
    """Return the seconds of its mark, the usual limit for a test of processes, or 0."""
    if mark := item.get_closest_marker("timeout"):
        return float([*mark.args, *mark.kwargs.values()][0])
    return float(item.config.getini("timeout")) if item.get_closest_marker("processes") else 0


def _class_of(item: pytest.Item) -> str:
    """Return what a worker of `--dist loadscope` runs at a time."""
    return item.nodeid.rpartition("::")[0]


def _needs_one_run(item: pytest.Item) -> bool:
    return item.get_closest_marker("once") is not None or not _needs_a_database(item)


def _needs_a_database(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    test_case = getattr(item, "cls", None)
    return bool(
        fixtures & {"db", "transactional_db"}
        or any(item.get_closest_marker(name) for name in ("django_db", "postgresql", "processes"))
        or (test_case and issubclass(test_case, TransactionTestCase))
    )

"""The pytest plugin of the test kit: the fixture `outbox`, and the clock and counts of each test.

pytest loads it by the entry point of the distribution, in every project of the environment, and
before Django has settings. So it imports the rest of the outbox only in its fixtures, and they
change nothing in a project without the app.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Outbox


@pytest.fixture(autouse=True, scope="session")
def _outbox_guards() -> None:
    """Raise if code breaks a rule, also in tests that do not use the outbox."""
    if _is_app_installed():
        from .guards import hooks

        hooks.start(by_default=True)


@pytest.fixture(autouse=True)
def _outbox_counts() -> Iterator[None]:
    """Keep the counts of one test out of the database of another."""
    if not _is_app_installed():
        yield
        return
    from .counting.buffer import without_threads

    with without_threads():
        yield


@pytest.fixture(autouse=True)
def _outbox_clock() -> Iterator[None]:
    """Use the host's clock, which a test can stop or move, not the database server's."""
    if not _is_app_installed():
        yield
        return
    from . import clock

    with clock.host_time():
        yield


@pytest.fixture
def outbox(db: None) -> Outbox:
    """The outbox of this test, on the default database."""
    from .testing import Outbox

    return Outbox()


def _is_app_installed() -> bool:
    """Return whether Django is set up with the app."""
    from django.apps import apps

    return apps.ready and apps.is_installed("outbox")

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.brokers import broker_under_test, is_given, name_under_test
from tests.chaos.stack import Stack, running_stack
from tests.chaos.without_broker import NoBroker
from tests.cluster.fixtures import network  # noqa: F401  a fixture

QUEUES = ["outbox", "ground", "ground.outside", "ground.slow"]
TABLES = ("outbox_attempt", "outbox_delivery", "outbox_event", "ground_effect")


@pytest.fixture(autouse=True)
def _skip_without_a_broker(request: pytest.FixtureRequest) -> None:
    needs_one = map(request.node.get_closest_marker, ("broker", "own_broker"))
    if name_under_test() == "none" and any(needs_one):
        pytest.skip("it is about the broker, and there is none")


@pytest.fixture(autouse=True)
def _leave_a_given_broker_alone(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("own_broker") and is_given():
        pytest.skip("it stops the broker, and the one that was given is somebody else's")


@pytest.fixture(scope="session")
def _ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The proving ground's stack, one for all tests of a run."""
    folder = tmp_path_factory.mktemp("ground")
    broker = broker_under_test(folder / "broker", queues=QUEUES)
    with running_stack(folder, settings="tests.chaos.settings", broker=broker) as stack:
        yield stack


@pytest.fixture
def ground(_ground: Stack) -> Iterator[Stack]:
    """The proving ground with a running broker and no backlog. Tests start the processes.

    The processes called "relay" and "worker" continue from test to test, as starting takes seconds.
    They are stopped if a test leaves a backlog: a relay that fans out while the tables are emptied
    stores deliveries of events that no longer exist, and these are never done.
    """
    yield _ground
    kept = {"broker"} if _ground.has_backlog() else {"broker", "relay", "worker"}
    _ground.stop_all(but=kept)
    if _ground.owns_broker and not _ground.is_running("broker"):
        _ground.start_broker()
    _ground.wipe_broker()
    _empty(_ground)


@pytest.fixture(scope="session")
def _local_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("local")
    with running_stack(folder, settings="tests.chaos.settings", broker=NoBroker()) as stack:
        yield stack


@pytest.fixture
def local_ground(_local_ground: Stack) -> Iterator[Stack]:
    """The proving ground without a broker, whichever is under test. No process runs."""
    yield _local_ground
    _local_ground.stop_all(but={"broker"})  # there is none; the loaded programs stay
    _local_ground.query("DELETE FROM outbox_heartbeat")
    _empty(_local_ground)


def _empty(ground: Stack) -> None:
    (ground.folder / "resume").unlink(missing_ok=True)
    for table in TABLES:
        ground.query(f"DELETE FROM {table}")
    ground.query("DELETE FROM outbox_subscription WHERE handler = ?", "ground.newcomer")
    ground.query('UPDATE outbox_subscription SET window_now = "window", paused_at = NULL')

"""Stock transfers between two shards. Their books balance while workers are killed.

The project is `tests/outbox/shards`, as the how-to describes the pattern.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest

from tests.databases import fresh_database
from tests.processes import Running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[3]
TRANSFERS = 120
#: Kills, one after the other, while goods are on their way.
KILLS = 12
PATIENCE = 600.0
DJANGO = [sys.executable, "-m", "django"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Yield the environment of the project's processes, with two migrated databases."""
    with ExitStack() as stack:
        given = {
            f"SHARD_{number}_URL": stack.enter_context(fresh_database()) for number in range(2)
        }
        given["DJANGO_SETTINGS_MODULE"] = "tests.outbox.shards.settings"
        given["SHOP_LOCAL_DIR"] = str(tmp_path)
        for using in ("default", "shard_1"):
            migrate = [*DJANGO, "migrate", "--run-syncdb", "--database", using]
            done = Running(migrate, environment=given, folder=ROOT)
            assert done.ends(within=PATIENCE) == 0, done.output
        yield given


class Workers:
    """Two processes of `outbox work`, each of which serves both shards."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._each = [self._start() for _ in range(2)]
        self._turns = cycle(range(2))

    def _start(self) -> Running:
        command = [*DJANGO, "outbox", "work", "--threads", "2"]
        return Running(command, environment=self._environment, folder=ROOT)

    def kill_one(self) -> None:
        """Kill a process that works, and start another one."""
        turn = next(self._turns)
        self._each[turn].says("Working:", within=PATIENCE)
        os.kill(self._each[turn].pid, signal.SIGKILL)
        self._each[turn].ends(within=PATIENCE)
        self._each[turn] = self._start()

    def stop(self) -> None:
        for one in self._each:
            one.end_for_sure()


class TestATransferBetweenTwoShards:
    def test_arrives_once_while_workers_are_killed(self, environment: Mapping[str, str]):
        """Without `dedupe_key` a killed `pass_on` stores a second arrival, and stock appears."""
        workers = Workers(environment)
        command = [sys.executable, "-m", "tests.outbox.shards.run", str(TRANSFERS)]
        run = Running(command, environment=environment, folder=ROOT)
        try:
            for _ in range(KILLS):
                time.sleep(0.3)  # each kill hits another step
                workers.kill_one()
            books = json.loads(run.says(r"books (.*)", within=PATIENCE)[1])
        finally:
            run.end_for_sure()
            workers.stop()

        assert books == {
            "stock": 2000,
            "transfers": TRANSFERS,
            "movements of a transfer": {"2": TRANSFERS},
            "unbalanced": 0,
            "arrivals": TRANSFERS,
        }

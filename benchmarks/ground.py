"""Servers of the benchmarks: one PostgreSQL with durable defaults, and a stage for each side."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

from shop.postgres import EmbeddedPostgres
from tests.chaos.stack import ROOT, Stack

from .harness import require_effects
from .sides import Side

#: Seconds. A step that takes longer has failed.
CEILING = 600.0

#: Seconds without one effect more, after which no more are waited for.
STANDSTILL = 60.0

#: Seconds between two looks at how many there are; each look takes a little of the machine.
LOOK_SECONDS = 0.25

#: So that the database itself says when a row's transaction was committed.
SETTINGS = {"track_commit_timestamp": "on"}

#: The rate within a run: from the first effect's commit to the last one's.
EFFECTS_PER_SECOND = """
WITH effect AS (SELECT pg_xact_commit_timestamp(xmin) AS at FROM sales_effect),
     ends AS (SELECT min(at) AS first, max(at) AS last FROM effect)
SELECT (SELECT count(*) FROM effect WHERE at > first) / extract(epoch FROM last - first)::float
FROM ends
"""

#: From the first order's commit to the last effect's.
ORDERS_PER_SECOND = """
SELECT (SELECT count(*) FROM sales_effect) / extract(epoch FROM
    (SELECT max(pg_xact_commit_timestamp(xmin)) FROM sales_effect)
  - (SELECT min(pg_xact_commit_timestamp(xmin)) FROM sales_order))::float
"""

#: From each order's commit to its effect's, in the order of the orders.
MILLISECONDS = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(e.xmin)
                        - pg_xact_commit_timestamp(o.xmin))::float * 1000
FROM sales_effect e JOIN sales_order o USING (order_id) ORDER BY o.id
"""


CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Stage(Stack):
    """One side, ready to be measured: a migrated database and a broker that are its own."""

    def __init__(self, side: Side, *, folder: Path, database_url: str) -> None:
        super().__init__(folder=folder, database_url=database_url, settings=side.settings)
        self.side = side
        self.environment |= {"BENCHMARK_NAME": side.name, **side.environment}

    def run(self, *arguments: str, **environment: str) -> str:
        """Run the side's Python to its end; return its output."""
        return self._run(arguments, environment, ceiling=CEILING)

    def _run(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, ceiling: float
    ) -> str:
        done = subprocess.run(
            [self.side.python, *arguments],
            cwd=ROOT,
            env=self.environment | dict(environment),
            capture_output=True,
            text=True,
            timeout=ceiling,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def call(
        self, module: str, *arguments: object, ceiling: float = CEILING, **environment: str
    ) -> Any:
        """Run a module of the side's Python; return its last line, which is JSON."""
        words = ["-m", module, *(str(one) for one in arguments)]
        printed = self._run(words, environment, ceiling=ceiling)
        return json.loads(printed.strip().splitlines()[-1])

    def emit(self, count: int, *options: str) -> None:
        """Place orders and publish them, each in a transaction: `benchmarks/project/emit.py`."""
        self.call("benchmarks.project.emit", count, *options)

    def wait_for_effects(self, count: int) -> None:
        """Wait until each event has its effect; raise unless each has exactly one.

        Raises `WrongEffects` too when for a minute there is none more.
        """
        effects, changed = self._effects(), time.monotonic()
        while effects < count and time.monotonic() - changed < STANDSTILL:
            time.sleep(LOOK_SECONDS)
            if (now := self._effects()) > effects:
                effects, changed = now, time.monotonic()
        effects, distinct = self.query(
            "SELECT count(*), count(DISTINCT order_id) FROM sales_effect"
        )[0]
        require_effects(expected=count, effects=effects, distinct=distinct, who=self.side.name)

    def _effects(self) -> int:
        return int(self.value("SELECT count(*) FROM sales_effect"))

    def wait_until(
        self, condition: Callable[[], object], what: str, *, ceiling: float = CEILING
    ) -> None:
        """Wait as the stack does, but for longer."""
        super().wait_until(condition, what, ceiling=ceiling)

    def start_consumers(self) -> None:
        """Start the side's consumers: its commands, and a worker of two processes.

        That worker is for all queues; the outbox's relay runs in its main process.
        """
        for number, command in enumerate(self.side.commands):
            self.start_command(f"command-{number}", *command)
        if self.side.has_worker:
            self._start_celery("worker", ["-c", "2"])

    def start_command(self, name: str, *command: str) -> None:
        """Start a management command; wait until it has its connection to the database."""
        self.start_module(name, "django", *command)

    def start_module(self, name: str, module: str, *arguments: str) -> None:
        """Start a module of the side's Python; wait as for a command."""
        before = self.connections()
        self.start(name, [self.side.python, "-m", module, *arguments])
        self.wait_until(lambda: self.connections() > before, f"{name} is connected")

    def connections(self) -> int:
        """Return the number of other connections to the stage's database."""
        return int(self.value(CONNECTIONS))

    def _start_celery(self, name: str, options: Sequence[str], **environment: str) -> None:
        before = len(self.log(name))
        manners = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        manners += ["--include", "benchmarks.project.ready"]
        command = [*self._celery("worker"), "-n", f"{name}@%h", *options, *manners]
        self.start(name, command, **environment)
        self.wait_until(lambda: " ready." in self.log(name)[before:], f"{name} is ready")

    def _celery(self, command: str) -> list[str]:
        return [self.side.python, "-m", "celery", "-A", f"{self.side.package}.celery", command]


class Ground:
    """A PostgreSQL of our own, as it comes: fsync on, synchronous commits, stock memory.

    Each side gets a fresh database; which migrations it has is worked out once.
    """

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._templates: dict[object, str] = {}
        self.url = ""

    def __enter__(self) -> Ground:
        self.url = self._cleanup.enter_context(EmbeddedPostgres(settings=SETTINGS))
        return self

    def __exit__(self, *_error: object) -> None:
        self._cleanup.close()

    @contextmanager
    def stage(self, side: Side) -> Iterator[Stage]:
        """Yield a stage whose broker runs; stop everything and drop its database afterwards."""
        with ExitStack() as cleanup:
            folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="benchmark-")))
            url = cleanup.enter_context(self.database(side))
            stage = Stage(side, folder=folder, database_url=url)
            cleanup.callback(stage.stop_all)
            stage.start_broker()
            self.settle()
            yield stage

    @contextmanager
    def database(self, side: Side) -> Iterator[str]:
        """Yield the URL of a fresh database that has the side's tables, dropped afterwards."""
        template = self._template(side)
        name = f"stage_{uuid4().hex[:12]}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self._url_of(name)
        finally:
            self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def settle(self) -> None:
        """Write the pages of earlier measurements to disk, so that the next does not have to."""
        self.execute("CHECKPOINT")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the server's superuser, outside any stage's database."""
        with psycopg.connect(self._url_of("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _template(self, side: Side) -> str:
        known = (side.settings, side.python, *sorted(side.environment.items()))
        if known not in self._templates:
            name = f"template_{len(self._templates)}"
            self.execute(f'CREATE DATABASE "{name}"')
            try:
                self._migrate(side, self._url_of(name))
            except RuntimeError:  # else the next stage fails because the template exists
                self.execute(f'DROP DATABASE "{name}"')
                raise
            self._templates[known] = name
        return self._templates[known]

    def _migrate(self, side: Side, url: str) -> None:
        environment = {
            **os.environ,
            **side.environment,
            "DATABASE_URL": url,
            "REDIS_URL": "redis://127.0.0.1:9/0",
            "DJANGO_SETTINGS_MODULE": side.settings,
        }
        command = [side.python, "-m", "django", "migrate", "-v0", "--run-syncdb"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{side.name}: migrate failed: {done.stderr}")

    def _url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


def elapsed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began

"""The project `project/depot` with one release of the outbox, and the books of its processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.package.built import Distribution
from tests.processes import NOTHING_GIVEN, Running, eventually

#: Seconds until a program or a condition counts as failed; only a busy machine comes near.
CEILING = 240.0
PROJECT = Path(__file__).with_name("project")
LEFT_OUT = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "SHOP_LOCAL_DIR")


@dataclass
class Site:
    """What the releases share: a database, a broker and a folder for signals."""

    database: str
    broker: str
    folder: Path

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement on the database."""
        if self.database.startswith("sqlite"):
            path = self.database.removeprefix("sqlite:///")
            with closing(sqlite3.connect(path, timeout=30)) as connection:
                return connection.execute(statement).fetchall()
        with psycopg.connect(self.database, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def number(self, statement: str) -> int:
        """Return the number that a statement counts."""
        [[found]] = self.rows(statement)
        return int(found)

    def signal(self, name: str) -> None:
        """Let a handler continue that waits for this name."""
        (self.folder / name).touch()

    def waits_for(self, name: str) -> None:
        """Wait until a handler gives this signal."""
        eventually((self.folder / name).exists, f"the signal {name}", within=CEILING)

    def waits_until(self, condition: str, what: str) -> None:
        """Wait until a SELECT returns a row."""
        eventually(lambda: self.rows(condition), what, within=CEILING)

    def message(self, which: str) -> tuple[int, int]:
        """Return id and token of the delivery of the first event ("min") or the last ("max")."""
        [found] = self.rows(
            "SELECT id, token FROM outbox_delivery "
            f"WHERE event_id = (SELECT {which}(seq) FROM outbox_event)"
        )
        return found[0], found[1]

    def settles(self) -> None:
        """Wait until no event and no delivery waits for anything but a person."""
        eventually(lambda: not self.outstanding(), "all deliveries are settled", within=CEILING)

    def outstanding(self) -> list[tuple[Any, ...]]:
        """Return the owed work by state."""
        return self.rows(
            "SELECT state, count(*) FROM outbox_delivery WHERE state NOT IN ('done', 'discarded') "
            "GROUP BY state UNION ALL "
            "SELECT 'waiting', count(*) FROM outbox_event WHERE fanned_out_at IS NULL "
            "HAVING count(*) > 0 UNION ALL "
            "SELECT 'delayed', count(*) FROM outbox_delayedevent HAVING count(*) > 0"
        )


@dataclass
class Deployment:
    """The project with one release, on a site."""

    release: Distribution
    site: Site
    variables: Mapping[str, str] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)

    @property
    def version(self) -> str:
        return str(self.release.metadata["Version"])

    def manage(self, *arguments: str) -> str:
        """Run a command of Django; return its output."""
        done = self._run(*arguments)
        assert done.returncode == 0, f"{self.version} {arguments}\n{done.stdout}"
        return done.stdout

    def reverse(self, migration: str) -> str:
        """Migrate the outbox back; return the reason if it was refused, else ""."""
        done = self._run("migrate", "outbox", migration, "--verbosity", "0")
        return done.stdout if done.returncode else ""

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.site.folder,
            env={name: value for name, value in self._environment().items() if value is not None},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def emit(self, events: str, *parcels: str, options: tuple[str, ...] = ()) -> None:
        """Emit an event of each kind, such as "Moved Held", for each parcel."""
        self.manage("emit_parcels", events, *parcels, *options)

    def start(self, *arguments: str) -> Running:
        """Start a program of Python, such as "-m", "django", and its arguments."""
        started = Running(
            [sys.executable, *arguments], environment=self._environment(), folder=self.site.folder
        )
        self.running.append(started)
        return started

    def start_emitting(self, event: str, *parcels: str, times: int) -> Running:
        """Start to emit events of each parcel."""
        return self.start("-m", "django", "emit_parcels", event, *parcels, "--times", str(times))

    def start_relay(self) -> Running:
        """Start `manage.py outbox relay`."""
        return self.start("-m", "django", "outbox", "relay")

    def start_worker(self, queue: str = "depot") -> Running:
        """Start a Celery worker of one queue, and wait until it consumes."""
        name = f"{self.version}-{len(self.running)}@%h"
        worker = self.start(
            *("-m", "celery", "-A", "depot", "worker", "--pool", "solo", "-Q", queue),
            *("-n", name, "--loglevel", "INFO", "--without-mingle", "--without-gossip"),
        )
        worker.says(r"\bready\b", within=CEILING)
        return worker

    def deliver(self, name: str, handler: str, message: tuple[int, int]) -> Running:
        """Start a process that handles a message as a worker does; see `deliver.py`."""
        pk, token = message
        return self.start("-m", "django", "deliver", name, handler, str(pk), str(token))

    def stop(self, *programs: Running) -> None:
        """Stop these programs, or all that still run."""
        for one in programs or self.running:
            one.end_for_sure()
        self.running = [one for one in self.running if not one.has_ended]

    def _environment(self) -> dict[str, str | None]:
        return {
            **os.environ,
            **NOTHING_GIVEN,
            **dict.fromkeys(LEFT_OUT),
            "PYTHONPATH": f"{self.release.installed}{os.pathsep}{PROJECT}",
            "DJANGO_SETTINGS_MODULE": "depot.settings",
            "DATABASE_URL": self.site.database,
            "BROKER_URL": self.site.broker,
            "SIGNALS": str(self.site.folder),
            **self.variables,
        }

"""Real processes for tests: a broker, a database, relays and workers, each to be killed at will."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.chaos.broker import Broker, Valkey
from tests.chaos.forks import Forks, Started
from tests.chaos.without_broker import NoBroker
from tests.databases import fresh_database

ROOT = Path(__file__).resolve().parents[2]

#: Seconds. Generous: reaching it is a failure, not a measurement.
CEILING = 180.0

#: Name of the tests' own connections, which are not counted as the shop's.
OBSERVER = "observer"

#: Programs that run in a fork of a process that has loaded Django, which spares them a second.
_LOADED = {(sys.executable, "manage.py"), (sys.executable, "-m", "celery")}

QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]


class Stack:
    """A separate database and broker, and the processes that a test starts on them."""

    def __init__(
        self, *, folder: Path, database_url: str, settings: str, broker: Broker | None = None
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.broker = broker or Valkey(folder / "broker")
        self._processes: dict[str, subprocess.Popen[bytes] | Started] = {}
        self._forks: dict[str, Forks] = {}
        self._making_forks = threading.Lock()
        self.environment = {
            **os.environ,
            **self.broker.settings,
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": database_url,
            "SHOP_LOCAL_DIR": str(folder),
            "GROUND_DIR": str(folder),
            "WORKER_GRACE": "5",
            "API_RATE_USER": "1000000/min",  # tests look again and again
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def redis_url(self) -> str:
        return self.broker.settings["REDIS_URL"]

    # --- the broker -----------------------------------------------------------------------------

    @property
    def owns_broker(self) -> bool:
        """Return whether it may be stopped: it is not external."""
        return bool(self.broker.command)

    def start_broker(self) -> None:
        if self.owns_broker:
            self.start("broker", self.broker.command, **self.broker.variables)
        self.wait_until(self.broker.answers, "the broker answers")

    def wipe_broker(self) -> None:
        self.broker.wipe()

    def empty_broker(self) -> None:
        self.broker.forget()

    def queue_length(self, queue: str) -> int:
        return self.broker.queue_length(queue)

    # --- processes ------------------------------------------------------------------------------

    def start(self, name: str, command: Sequence[str], **environment: str) -> int:
        """Start a process in a new session, and write its output to `<name>.log`."""
        path = self.folder / f"{name}.log"
        if tuple(command[:2]) in _LOADED or tuple(command[:3]) in _LOADED:
            self._processes[name] = self._forks_with(environment).start(command[1:], log=path)
            return self.pid(name)
        with path.open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.pid(name)

    def start_relay(self, name: str = "relay", **environment: str) -> None:
        """Start a relay, unless one of this name runs."""
        if self.is_local:
            self._start_work(name, "outbox", **environment)
            return
        self._start_celery(name, ["-Q", "outbox", "--pool", "solo"], **environment)

    def start_worker(
        self, name: str = "worker", *, queues: str, concurrency: int = 2, **environment: str
    ) -> None:
        """Start a worker, unless one of this name runs."""
        if self.is_local:
            self._start_work(name, queues, "--processes", str(concurrency), **environment)
            return
        options = ["-Q", queues, "-c", str(concurrency)]
        self._start_celery(name, options, **environment)

    def start_beat(self, name: str = "beat") -> None:
        self.start(name, [*self._celery("beat"), "--loglevel", "INFO", "--pidfile", ""])

    @property
    def is_local(self) -> bool:
        """Return whether processes of `outbox work` relay and deliver, without a broker."""
        return isinstance(self.broker, NoBroker)

    def _start_work(self, name: str, queues: str, *options: str, **environment: str) -> None:
        if self.is_running(name):
            return
        before = len(self.log(name))
        served = [part for queue in queues.split(",") for part in ("--queue", queue)]
        command = [sys.executable, "manage.py", "outbox", "work", *served, *options]
        self.start(name, command, **environment)
        self.wait_until(lambda: "Working: " in self.log(name)[before:], f"{name} works")

    def _start_celery(self, name: str, options: Sequence[str], **environment: str) -> None:
        if self.is_running(name):
            return
        before = len(self.log(name))
        self.start(
            name, [*self._celery("worker"), "-n", f"{name}@%h", *options, *QUIET], **environment
        )
        self.wait_until(lambda: " ready." in self.log(name)[before:], f"{name} is ready")

    def _celery(self, command: str) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "shop", command]

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def children(self, name: str) -> list[int]:
        """The pids of a worker's pool."""
        return [child.pid for child in psutil.Process(self.pid(name)).children()]

    def kill(self, name: str) -> None:
        """SIGKILL a process and all that it started, as when its machine goes away."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and all that it started, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._processes[name].pid, number)

    def stop(self, name: str) -> int:
        """End a process as a deploy does; return its exit code."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(timeout=CEILING)

    def is_running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run `manage.py` to its end; return what it printed."""
        return self.run("manage.py", *arguments, **environment)

    def migrate(self) -> None:
        """Migrate the database."""
        self.manage("migrate", "-v0")

    def run(self, *arguments: str, **environment: str) -> str:
        """Run Python to its end; return what it printed."""
        done = self.run_anyway(*arguments, **environment)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout

    def run_anyway(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end, whether it succeeds or fails."""
        return self._forks_with(environment).run(arguments)

    def _forks_with(self, environment: dict[str, str]) -> Forks:
        used = self.environment | environment
        key = json.dumps(used, sort_keys=True)
        with self._making_forks:
            if key not in self._forks:
                self._forks[key] = Forks(used)
            return self._forks[key]

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def all_logs(self) -> str:
        return "\n".join(self.log(path.stem) for path in self.folder.glob("*.log"))

    def stop_all(self, *, but: Collection[str] = ()) -> None:
        for name in self._processes.keys() - set(but):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._processes[name].pid, signal.SIGCONT)
            self.kill(name)
        while self._forks and not but:
            self._forks.popitem()[1].end()

    def resume_handlers(self) -> None:
        """Let handlers of events that pause until they are resumed continue."""
        (self.folder / "resume").touch()

    def stop_relays(self) -> None:
        """Stop everything that relays. Without a broker that includes each worker."""
        self.stop_all(but={"broker"} if self.is_local else {"broker", "worker"})

    # --- what is stored -------------------------------------------------------------------------

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Query the database directly. `?` is a parameter."""
        if self.database_url.startswith("sqlite"):
            path = self.database_url.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path, timeout=30)) as lite, lite:
                return lite.execute(statement, parameters).fetchall()
        with psycopg.connect(self.database_url, application_name=OBSERVER) as connection:
            # Without parameters psycopg leaves a "%" alone.
            cursor = connection.execute(statement.replace("?", "%s").encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        """The one value of a query."""
        return self.query(statement, *parameters)[0][0]

    def has_backlog(self) -> bool:
        """Return whether an event is not fanned out or a delivery is not done."""
        # In one statement: between two, a handler's commit turns a delivery into a waiting event.
        return bool(
            self.value(
                "SELECT (SELECT count(*) FROM outbox_event WHERE fanned_out_at IS NULL)"
                " + (SELECT count(*) FROM outbox_delivery WHERE state <> 'done')"
            )
        )

    def wait_until(
        self, condition: Callable[[], object], what: str, *, ceiling: float = CEILING
    ) -> None:
        """Wait until a condition holds; fail with the processes' last words if it never does."""
        end = time.monotonic() + ceiling
        while not condition():
            assert time.monotonic() < end, f"Never came: {what}\n{self._last_words()}"
            time.sleep(0.05)

    def _last_words(self) -> str:
        tails = [
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-25:])
            for path in sorted(self.folder.glob("*.log"))
        ]
        return "\n".join(tails)


@contextmanager
def running_stack(
    folder: Path, *, settings: str, database: str | None = None, broker: Broker | None = None
) -> Iterator[Stack]:
    """Yield a migrated stack whose broker runs; stop everything afterwards.

    Its database is of the kind under test, unless another is named.
    """
    with ExitStack() as cleanup:
        url = cleanup.enter_context(fresh_database(database))
        stack = Stack(folder=folder, database_url=url, settings=settings, broker=broker)
        cleanup.callback(stack.broker.clean_up)
        cleanup.callback(stack.stop_all)
        stack.start_broker()
        stack.migrate()
        yield stack

"""A project whose sinks and sources use real servers: relay, worker, receivers, web, emitter."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from shop.postgres import EmbeddedPostgres
from tests.chaos.edges import systems as all_systems
from tests.chaos.edges.proxy import Loop
from tests.chaos.edges.sabotage import sabotaged
from tests.chaos.edges.system import System
from tests.chaos.edges.systems import Http
from tests.chaos.stack import Stack
from tests.chaos.supervisor import Supervisor
from tests.servers.server import ServerMissing

SETTINGS = "tests.chaos.edges.settings"
RECEIVERS = ("receiver", "receiver-2")
_RECEIVE = [sys.executable, "manage.py", "outbox", "receive"]
#: Of every sink. A call that a frozen system does not answer must not take a worker for long.
SINK = {"TIMEOUT_SECONDS": 2.0, "LEASE_SECONDS": 8.0, "ATTEMPTS": None}


class EdgeWorld(Supervisor):
    """The processes, and the systems that they are connected to.

    Attributes:
        folder: for data and logs.
        systems: those whose servers are installed.
        freezes: processes and servers that faults have frozen.
    """

    def __init__(
        self, stack: Stack, systems: Sequence[System], *, rate: float, sabotage: str = ""
    ) -> None:
        super().__init__(stack)
        self.folder = stack.folder
        self.systems = systems
        self.freezes = 0
        self._web_url = next((one.web_url for one in systems if isinstance(one, Http)), "")
        sinks = {
            name: {**SINK, "EVENTS": ["harbour.*"], **entry}
            for system in systems
            for name, entry in system.sinks.items()
        }
        sources = {name: entry for one in systems for name, entry in one.sources.items()}
        self._outbox = sabotaged(sabotage, {"SINKS": sinks, "SOURCES": sources})
        stack.environment |= {
            "EDGES": json.dumps(self._outbox),
            "CHAOS_DIR": str(stack.folder),
            "WORKER_GRACE": "3",
        }
        for name in ("worker", "worker-2"):
            self.commands[name] = self.worker_command(name)
        self.commands["relay"] = self.relay_command("relay")
        for name in RECEIVERS:
            self.commands[name] = ["env", f"EDGES_MEMBER={name}", *_RECEIVE]
        self.commands["web"] = self._web()
        self.commands["emitter"] = [sys.executable, "manage.py", "sail", "--rate", f"{rate:g}"]

    def open(self) -> None:
        """Start everything, and wait until each process works."""
        self._start(RECEIVERS[0])  # alone: `tests/servers/kafka.py` has the reason
        self.stack.wait_until(
            lambda: all(one.serves_receivers() for one in self.systems), "the groups have a member"
        )
        self.start_all()
        self.stack.wait_until(self._is_open, "the processes are ready")

    @contextmanager
    def guest_receiver(self) -> Iterator[None]:
        """Let a receiver join the others for the block. It ends as a deploy ends it."""
        of_guests = {name: one for system in self.systems for name, one in system.of_guests.items()}
        sources = {**self._outbox["SOURCES"], **of_guests}
        outbox = json.dumps({**self._outbox, "SOURCES": sources})
        self.stack.start("guest", _RECEIVE, EDGES=outbox, EDGES_MEMBER="guest")
        try:
            yield
        finally:
            self.stack.stop("guest")

    @contextmanager
    def frozen_process(self, name: str) -> Iterator[None]:
        """Pause a process and its children for the block, if it runs."""
        self._signal(name, signal.SIGSTOP)
        self.freezes += 1
        try:
            yield
        finally:
            self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def _is_open(self) -> bool:
        ready = all(" ready." in self.stack.log(name) for name in ("worker", "worker-2", "relay"))
        with contextlib.suppress(httpx.HTTPError):
            # A GET is refused by the view, so the process works.
            return ready and httpx.get(f"{self._web_url}/events/from_http/").status_code == 405
        return False

    def _web(self) -> list[str]:
        bind = self._web_url.removeprefix("http://")
        options = ["--workers", "1", "--threads", "4", "--bind", bind, "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", "shop.wsgi", *options]


@contextmanager
def edge_world(
    folder: Path, *, database: str, wanted: Sequence[str] = (), rate: float, sabotage: str = ""
) -> Iterator[EdgeWorld]:
    """Yield a migrated world whose processes are not started yet; close it afterwards.

    Args:
        folder: for data and logs.
        database: "sqlite" or "postgresql".
        wanted: names of systems. Empty: all whose servers are installed.
        rate: transactions of the emitter a second.
        sabotage: see `sabotage.py`.
    """
    with ExitStack() as cleanup:
        url = f"sqlite:///{folder / 'db.sqlite3'}"
        if database == "postgresql":
            data = cleanup.enter_context(TemporaryDirectory(prefix="shop-edges-", dir="/tmp"))
            Path(data).chmod(0o755)
            postgres = EmbeddedPostgres(Path(data) / "postgres")
            cleanup.callback(postgres.stop)
            url = postgres.start()
        loop = Loop()
        cleanup.callback(loop.close)
        systems = list(_started(folder, loop, cleanup, wanted))
        stack = Stack(folder=folder, database_url=url, settings=SETTINGS)
        cleanup.callback(stack.broker.clean_up)
        world = EdgeWorld(stack, systems, rate=rate, sabotage=sabotage)
        cleanup.callback(world.close)
        stack.start_broker()
        stack.manage("migrate", "-v0")
        yield world


def _started(
    folder: Path, loop: Loop, cleanup: ExitStack, wanted: Sequence[str]
) -> Iterator[System]:
    for kind in all_systems.ALL:
        if wanted and kind.name not in (*wanted, Http.name):
            continue
        try:
            yield kind(folder / kind.name, loop, cleanup)
        except ServerMissing as reason:
            print(f"Without {kind.name}: {reason}", flush=True)

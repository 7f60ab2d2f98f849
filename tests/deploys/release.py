"""The project `till` in two releases, and the processes of each."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.package.deployment import CEILING, LEFT_OUT, Site
from tests.processes import NOTHING_GIVEN, Running

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
#: The folders whose files make a release; a later one replaces files of an earlier one.
FOLDERS = {"old": ("old", "shared"), "new": ("old", "new", "shared")}


@dataclass
class Release:
    """One release of the project on a site: its files, and its running processes.

    Attributes:
        name: "old" or "new".
        listener: the socket on which the web servers of all releases accept requests, as the
            service manager of a host passes it on.
    """

    name: str
    site: Site
    listener: socket.socket
    web: list[Running] = field(default_factory=list)
    workers: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.site.folder / self.name
        for layer in FOLDERS[self.name]:
            shutil.copytree(HERE / layer / "till", self.folder / "till", dirs_exist_ok=True)

    def migrate(self) -> None:
        """Run `manage.py migrate`."""
        done = subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
            cwd=self.folder,
            env={name: value for name, value in self._environment().items() if value is not None},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def start_web(self) -> None:
        """Start a web server, and wait until it accepts requests."""
        number = self.listener.fileno()
        server = self._start(
            *("-m", "gunicorn", "till.wsgi", "--bind", f"fd://{number}", "--workers", "2"),
            *("--graceful-timeout", str(int(CEILING)), "--timeout", str(int(CEILING))),
            *("--no-control-socket",),
        )
        self.web.append(server)
        server.says("Booting worker", within=CEILING)

    def start_workers(self) -> None:
        """Start a relay and a worker, and wait until both run."""
        if not self.site.broker:
            self._work("-m", "django", "outbox", "work", says="Working: ")
            return
        # It prints nothing. The entries that a test waits for show that it runs.
        self.workers.append(self._start("-m", "django", "outbox", "relay"))
        self._work(
            *("-m", "celery", "-A", "till", "worker", "--pool", "solo", "-Q", "till"),
            *("-n", f"{self.name}-{len(self.workers)}@%h", "--loglevel", "INFO"),
            *("--without-mingle", "--without-gossip"),
            says=r"\bready\b",
        )

    def _work(self, *arguments: str, says: str) -> None:
        program = self._start(*arguments)
        self.workers.append(program)
        program.says(says, within=CEILING)

    def stop_web(self) -> None:
        """Stop the web servers as a deploy does: by SIGTERM, and each ends its requests."""
        self._stop(self.web)

    def stop_workers(self) -> None:
        """Stop relay and workers as a deploy does: by SIGTERM, and each ends its deliveries."""
        self._stop(self.workers)

    def _stop(self, programs: list[Running]) -> None:
        for one in programs:
            one.end_for_sure()
        programs.clear()

    def _start(self, *arguments: str) -> Running:
        return Running(
            [sys.executable, *arguments],
            environment=self._environment(),
            folder=self.folder,
            pass_fds=[self.listener.fileno()],
        )

    def _environment(self) -> dict[str, str | None]:
        return {
            **os.environ,
            **NOTHING_GIVEN,
            **dict.fromkeys(LEFT_OUT),
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "till.settings",
            "DATABASE_URL": self.site.database,
            "BROKER_URL": self.site.broker or None,
            "CALLS": str(self.site.folder / "calls"),
        }

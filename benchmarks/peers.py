"""Other Django outboxes, each installed at a fixed version into an environment of its own.

An environment is made on first use, in `.local/benchmarks/`, and created again when its
requirements change. Django, Celery and psycopg have the versions with which the outbox is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from .sides import TUNED, Side

FOLDER = Path(__file__).resolve().parents[1] / ".local" / "benchmarks"


@dataclass(frozen=True)
class Peer:
    """A distribution and its side; `side()` installs it where it is not there yet."""

    distribution: str
    version: str
    needs: Sequence[str]
    plan: Side

    @property
    def name(self) -> str:
        return f"{self.distribution} {self.version}"

    def side(self, *commands: Sequence[str]) -> Side:
        """Return the side, with the Python of its environment, and other commands if any."""
        return replace(
            self.plan, python=str(self._python()), commands=commands or self.plan.commands
        )

    def _python(self) -> Path:
        folder = FOLDER / f"venv-{self.distribution}"
        wanted = "\n".join([sys.version, f"{self.distribution}=={self.version}", *self._needs()])
        stamp = folder / "installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"(installing {self.name} into {folder})", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(folder / "bin" / "python"), *PIP, *wanted.splitlines()[1:])
            stamp.write_text(wanted)
        return folder / "bin" / "python"

    def _needs(self) -> list[str]:
        same = [f"django=={version('django')}", f"psycopg[binary]=={version('psycopg')}"]
        return [*same, *self.needs]


PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
CELERY = f"celery[redis]=={version('celery')}"

#: It relays to Celery. Its relay looks every second by default; 0.05 is the tuned form. The
#: metrics, which it sends by default, are off, which its documentation calls MONITORING_METRICS.
CELERY_OUTBOX = Peer(
    "django-celery-outbox",
    "0.4.3",
    (CELERY,),
    Side(
        "django-celery-outbox",
        "benchmarks.project.celery_outbox",
        TUNED,
        commands=[("celery_outbox_relay", "--idle-time", "0.05")],
    ),
)

#: It relays calls of functions, here of `task.delay`, one after the other. A tenth of a second is
#: the advice of its documentation for ordered events.
JAIMINHO = Peer(
    "django-jaiminho",
    "2.2.1",
    (CELERY,),
    Side(
        "django-jaiminho",
        "benchmarks.project.jaiminho_side",
        TUNED,
        commands=[("events_relay", "--run-in-loop", "--loop-interval", "0.1")],
    ),
)

#: Its relay runs the handlers itself, woken by NOTIFY; without coalescing it is the quickest.
DOMAIN_EVENTS = Peer(
    "django-domain-events",
    "0.14.1",
    ("dacite==1.9.2",),
    Side(
        "django-domain-events",
        "benchmarks.project.domain_events",
        has_worker=False,
        commands=[("deliver_events",)],
    ),
)

#: A queue of jobs in PostgreSQL. A worker is woken by NOTIFY, and runs jobs in threads. One thread
#: is as quick at a single job, and more are quicker at many.
PROCRASTINATE = Peer(
    "procrastinate",
    "3.10.0",
    (),
    Side(
        "procrastinate",
        "benchmarks.project.procrastinate_side",
        has_worker=False,
        commands=[("procrastinate", "worker", "--concurrency", "4")],
    ),
)

#: Tasks in the database. A worker polls, by default every second; 0.05 is the tuned form. It runs
#: tasks in a pool of threads.
OX = Peer(
    "django-ox",
    "1.9.1",
    ("django-tasks==0.12.0",),
    Side(
        "django-ox",
        "benchmarks.project.ox_side",
        has_worker=False,
        commands=[("ox_worker", "--interval", "0.05", "--concurrency", "4", "--verbosity", "0")],
    ),
)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")

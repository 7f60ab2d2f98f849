"""The programs of this project: their commands and readiness probes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shop.up.probes import prints, responds
from shop.up.processes import Program

# Stages: servers first, then programs that need them. The stop is in reverse.
SERVERS, WEB, WORKERS = 0, 1, 2

# The raw address: decoded, it could forge log lines.
ACCESS_LOG = "%(m)s %({raw_uri}e)s %(s)s in %(M)s ms"
#: Requests by which the supervisor and open pages ask every second.
POLLS = r"GET (/livez|/development/story/\S*|/orders/\S+/status/\S*) 20[04]"
ALL_BUT_THE_RELAY = ("-X", "outbox")
# The end of a log message. With LOG_FORMAT=json its quotation mark and other fields follow.
_END = r"\.(\"|$)"
CELERY_IS_READY = rf" ready{_END}"
WEB_IS_READY = rf"Serving requests{_END}"  # gunicorn.conf.py
RECEIVER_IS_READY = "Receiving: "
# Celery's lines about the outbox's tasks and the shop's periodic ones; `chatter` adds the latter.
# The outbox itself logs each delivery.
CELERY_CHATTER = r"Task ({tasks})\[\S+\] (received|succeeded)|Sending due task ({tasks}) "
# What a page loads beside itself. Answers that are errors are shown.
PARTS_OF_PAGES = r"GET (/livez|/static/\S*|/admin/jsi18n/\S*) (200|304)\b"
# Celery warns of root because of pickle, which the settings refuse; eight lines at each start.
NO_ROOT_WARNING = ("-W", "ignore:You're running the worker with superuser privileges")


@dataclass(frozen=True, kw_only=True)
class Project:
    """The code's folder, and the settings that all programs share."""

    root: Path
    environment: Mapping[str, str]
    worker_grace: float
    periodic_tasks: Sequence[str] = ()

    def bank(
        self, options: Sequence[str], *, port: int, data: Path, webhook_secret: str
    ) -> Program:
        """Return the bank simulator; only its own code restarts it."""
        return self._python(
            "bank",
            *("-m", "payments.simulator", "--port", str(port), "--data", str(data), *options),
            ready=responds(port, "/health"),
            stage=SERVERS,
            code="payments/simulator",
            hidden="GET /health 200",
            environment={**self.environment, "BANK_WEBHOOK_SECRET": webhook_secret},
        )

    def setup(self, *arguments: str) -> Program:
        """Return a program that ends: migrations and demo data, or steps after a code change."""
        return self._python("setup", "-m", "shop.up.setup", *arguments, code=None)

    def web(self, *, port: int, descriptor: int) -> Program:
        """Return the web server, on a port that is open already."""
        return self._python(
            "web",
            *("-m", "gunicorn", "shop.wsgi", "--bind", f"fd://{descriptor}"),
            *("--workers", "1", "--access-logfile", "-", "--access-logformat", ACCESS_LOG),
            ready=prints(WEB_IS_READY),
            stage=WEB,
            grace=20.0,
            inherited=[descriptor],
            overlaps=True,
            hidden=f"{PARTS_OF_PAGES}|{POLLS}",
        )

    def relay(self) -> Program:
        return self._worker("relay", "-Q", "outbox", "--pool", "solo")

    def worker(self, *, processes: int) -> Program:
        """Return a worker of all queues but the relay's, including those of apps added later."""
        return self._worker("worker", *ALL_BUT_THE_RELAY, "-c", str(processes))

    def app_worker(self, app: str, *, queues: Iterable[str], processes: int) -> Program:
        """Return another worker, for the queues of one app."""
        return self._worker(app, "-Q", ",".join(sorted(queues)), "-c", str(processes))

    def receiver(self) -> Program:
        """Return the process that receives the sources of `OUTBOX["SOURCES"]`."""
        return self._python(
            "receive",
            *("manage.py", "outbox", "receive"),
            ready=prints(RECEIVER_IS_READY),
            stage=WORKERS,
            # Its lines are translated, and the probe reads one. It stores no translated text.
            environment={**self.environment, "LANGUAGE_CODE": "en"},
        )

    def beat(self) -> Program:
        return self._celery("beat", "beat", ready=prints("beat: Starting"), hidden=self._chatter)

    @property
    def _chatter(self) -> str:
        tasks = [r"outbox\.\w+", *map(re.escape, self.periodic_tasks)]
        return CELERY_CHATTER.format(tasks="|".join(tasks))

    def _worker(self, name: str, *arguments: str) -> Program:
        return self._celery(
            name,
            *("worker", "-n", f"{name}@%h", *arguments),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ready=prints(CELERY_IS_READY),
            grace=self.worker_grace + 10.0,
            hidden=self._chatter,
        )

    def _celery(self, name: str, *arguments: str, **options: Any) -> Program:
        command = ("-m", "celery", "--quiet", "-A", "shop", *arguments, "--loglevel", "INFO")
        return self._python(name, *NO_ROOT_WARNING, *command, stage=WORKERS, **options)

    def _python(self, name: str, *arguments: str, **options: Any) -> Program:
        return Program(
            name=name,
            command=[sys.executable, *arguments],
            folder=self.root,
            **{"code": ".", "environment": self.environment, **options},
        )

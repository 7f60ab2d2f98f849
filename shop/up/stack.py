"""The stack of `manage.py up`: its programs, their order and their settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

from django.conf import settings

from outbox.sources.configuration import received_sources
from outbox.subscriptions import queues
from shop.up import banner, broker
from shop.up.broker import Broker
from shop.up.console import Console
from shop.up.control import Control
from shop.up.errors import UpError
from shop.up.files import write_json
from shop.up.lock import Lock
from shop.up.ports import HOST, free_port, listen
from shop.up.processes import Program
from shop.up.programs import SERVERS, Project
from shop.up.reload import CodeWatcher
from shop.up.supervisor import Supervisor

BANK_WEBHOOK = "/api/payments/webhooks/bank/"
#: The folder of the drawer's requests, inside of the data folder.
CONTROL = "control"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    data: Path
    port: int = 8000
    scale: Mapping[str, int] = field(default_factory=dict)
    reload: bool = True
    quiet: bool = False
    bank: Sequence[str] = ()  # more options of the simulator
    programs: Sequence[Program] = ()  # more programs, each started at its stage


@dataclass(frozen=True, kw_only=True)
class Running:
    """The stack, once everything is ready."""

    supervisor: Supervisor
    console: Console
    data: Path
    port: int


def stay(running: Running) -> None:
    """Print the next steps, and run until a signal arrives."""
    control = Control(running.data / CONTROL, running.supervisor, running.console.info)
    running.console.write(banner.text(port=running.port, data=running.data))
    try:
        running.supervisor.run(each_turn=control.check)
    finally:
        control.close()


def run(
    options: Options,
    *,
    console: Console | None = None,
    once_ready: Callable[[Running], None] = stay,
) -> None:
    """Start everything, call `once_ready`, and stop everything; a signal ends it early.

    Raise UpError, with one sentence, if it cannot start or continue.
    """
    if settings.FOR_REAL:
        raise UpError("`up` is for development only. Unset ALLOWED_HOSTS and DEBUG.")
    require_known_apps(options.scale)
    os.umask(0o077)  # databases, e-mails, logs and sockets contain customers' orders, and keys
    options.data.mkdir(parents=True, exist_ok=True)
    with Lock(options.data) as lock, listen(options.port) as listener:
        _supervise(options, console or Console(quiet=options.quiet), lock, listener, once_ready)


def _supervise(
    options: Options,
    console: Console,
    lock: Lock,
    listener: socket,
    once_ready: Callable[[Running], None],
) -> None:
    port = listener.getsockname()[1]
    chosen, bank_port = broker.choose(os.environ, options.data / "broker"), free_port()
    variables = _variables(options, chosen, port=port, bank_port=bank_port)
    project = _project(options, variables)
    with Supervisor(
        console,
        changes=CodeWatcher(settings.BASE_DIR) if options.reload else None,
        before_reload=lambda: supervisor.call(project.setup("--sync")),
        inherited=[lock.descriptor],
    ) as supervisor:
        supervisor.remove_at_the_end(options.data / "run.json")
        write_json(options.data / "run.json", {**variables, "PID": os.getpid()})
        supervisor.start(_servers(options, project, chosen, bank_port))
        supervisor.call(project.setup())
        supervisor.start([project.web(port=port, descriptor=listener.fileno())])
        others = [one for one in options.programs if one.stage != SERVERS]
        supervisor.start([project.relay(), *_workers(options, project), project.beat(), *others])
        once_ready(Running(supervisor=supervisor, console=console, data=options.data, port=port))


def _variables(options: Options, chosen: Broker, *, port: int, bank_port: int) -> dict[str, str]:
    """Return the variables for our programs (environment) and for other processes (run.json)."""
    # The file has secrets, so only its owner may read it, and the stop removes it.
    names = (
        *("DATABASE_URL", "BEHIND_PGBOUNCER", "BANK_URL", "BANK_WEBHOOK_SECRETS", "SITE_ORIGIN"),
        *("GATEWAY", "STRIPE_API_KEY", "STRIPE_API_URL"),
    )
    given = {name: os.environ[name] for name in names if name in os.environ}
    return {
        "BANK_URL": f"http://{HOST}:{bank_port}",
        "BANK_API_KEY": os.environ.get("BANK_API_KEY") or secrets.token_urlsafe(24),
        "BANK_WEBHOOK_SECRETS": secrets.token_urlsafe(24),
        "DEBUG": "true",
        "PORT": str(port),
        "SITE_ORIGIN": f"http://{HOST}:{port}",
        "UP_CONTROL": str(options.data / CONTROL),
        **chosen.variables,
        **given,
    }


def _project(options: Options, variables: Mapping[str, str]) -> Project:
    return Project(
        root=settings.BASE_DIR,
        environment={
            **variables,
            "SHOP_LOCAL_DIR": str(options.data),
            "PYTHONUNBUFFERED": "1",
        },
        worker_grace=settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT,
        periodic_tasks=[entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()],
    )


def _servers(options: Options, project: Project, chosen: Broker, bank_port: int) -> list[Program]:
    """Return the broker and the bank, if they are ours, and further servers."""
    programs = [] if chosen.program is None else [chosen.program]
    programs += [one for one in options.programs if one.stage == SERVERS]
    if "BANK_URL" not in os.environ:
        webhooks = f"http://{HOST}:{project.environment['PORT']}{BANK_WEBHOOK}"
        bank = project.bank(
            ["--webhook-url", webhooks, *options.bank],
            port=bank_port,
            data=options.data / "bank",
            webhook_secret=project.environment["BANK_WEBHOOK_SECRETS"].split(",")[0].strip(),
        )
        programs.append(bank)
    return programs


def _workers(options: Options, project: Project) -> list[Program]:
    """Return one worker for everything (SQLite allows one writer), and one for each scaled app.

    If sources are configured, another process receives them.
    """
    on_sqlite = os.environ.get("DATABASE_URL", "sqlite").startswith("sqlite")
    return [
        project.worker(processes=2 if on_sqlite else 4),
        *(
            project.app_worker(app, queues=queues()[app], processes=processes)
            for app, processes in options.scale.items()
        ),
        *([project.receiver()] if received_sources() else []),
    ]


def require_known_apps(scale: Mapping[str, int]) -> None:
    """Raise UpError if a scaled app has no handlers."""
    known = sorted(queues())
    for app in scale:
        if app not in known:
            raise UpError(
                f"The app {app!r} has no handlers to scale. Apps with handlers: {', '.join(known)}."
            )

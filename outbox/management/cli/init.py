"""The subcommand init: what a project lacks for the outbox, ready to paste."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils.translation import gettext as _

from outbox import databases
from outbox.transports.celery_app import has_outbox
from outbox.transports.names import celery_in_use

from .common import Options, Write, count

_SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}
_INDENT = " " * 7
_MIDDLEWARE = "outbox.context.RequestContextMiddleware"


@dataclass(frozen=True)
class Step:
    """One missing part.

    Attributes:
        reason: what is missing, and why it is needed.
        place: the file to change, or "shell".
        text: what to paste there.
    """

    reason: str
    place: str
    text: str


class Init:
    """Inspect this project, and print what it lacks for the outbox, ready to paste."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare no arguments."""

    def run(self, options: Options, write: Write) -> None:
        """Write each missing part, and then how to run the project. It changes nothing."""
        found = list(missing())
        for number, step in enumerate(found, start=1):
            write(
                f"{number}. {step.reason}\n\n   {step.place}:\n\n{indent(step.text, '       ')}\n"
            )
        if found:
            write(
                _("%(counted)s missing. Run this again afterwards.")
                % {"counted": count(len(found), "part is", "parts are")}
            )
        else:
            write(_("Nothing is missing.") + f"\n\n{_run()}")


def missing() -> Iterator[Step]:
    """Yield the missing parts of this project, in the order in which to add them."""
    yield from _time_zones()
    for using in databases.aliases():
        yield from _database(using)
    yield from _celery()
    yield from _context()
    for using in databases.aliases():
        yield from _migrations(using)


def _time_zones() -> Iterator[Step]:
    if not settings.USE_TZ:
        yield Step(
            _(
                "USE_TZ is False, and the outbox compares times that have a time zone. Existing "
                "code may need changes: see Django's page about time zones."
            ),
            _settings_file(),
            "USE_TZ = True",
        )


def _database(using: str) -> Iterator[Step]:
    connection = connections[using]
    given = connection.settings_dict.get("OPTIONS", {})
    lacking = {name: value for name, value in _SQLITE.items() if name not in given}
    if connection.vendor == "sqlite" and lacking:
        lines = "".join(f'    "{name}": {value!r},\n' for name, value in lacking.items())
        yield Step(
            _("SQLite needs options, so that readers and writers do not fail beside each other."),
            _settings_file(),
            f'DATABASES["{using}"].setdefault("OPTIONS", {{}}).update({{\n{lines}}})'.replace(
                "'", '"'
            ),
        )


def _celery() -> Iterator[Step]:
    app = celery_in_use()
    if app is None:  # processes of outbox work need nothing
        return
    if not has_outbox(app):
        yield from _celery_app()
    if not _has_broker(app):
        yield Step(
            _("Celery has no broker."),
            _settings_file(),
            'CELERY_BROKER_URL = "redis://localhost:6379/0"  # the address of your Redis or Valkey',
        )


def _has_broker(app: Any) -> bool:
    given = getattr(settings, "CELERY_BROKER_URL", None) or getattr(settings, "BROKER_URL", None)
    return bool(given or (has_outbox(app) and app.conf.broker_url))


def _celery_app() -> Iterator[Step]:
    package = _package()
    module = _folder() / "celery.py"
    if not module.is_file():
        yield Step(
            _(
                "The project has no Celery app. To run without a broker, set "
                'OUTBOX = {"TRANSPORTS": ["local"]} instead.'
            ),
            str(_shown(module)),
            _NEW_APP.format(package=package, settings=settings.SETTINGS_MODULE),
        )
    elif "outbox.celery" not in (source := module.read_text()):
        found = re.search(r"^(\w+)\s*(?::[^=]+)?=\s*\w*\.?Celery\(", source, re.MULTILINE)
        yield Step(
            _("The Celery app does not have the outbox."),
            _("%(file)s, at its end") % {"file": _shown(module)},
            f"from outbox.celery import install\n\ninstall({found[1] if found else 'app'})",
        )
    start = _folder() / "__init__.py"
    if not start.is_file() or ".celery" not in start.read_text():
        yield Step(
            _(
                "The package does not import its Celery app, so other processes than workers use "
                "Celery's default app."
            ),
            str(_shown(start)),
            'from .celery import app as celery_app\n\n__all__ = ["celery_app"]',
        )


_NEW_APP = """\
import os

from celery import Celery

from outbox.celery import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")

app = Celery("{package}")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
install(app)"""


def _context() -> Iterator[Step]:
    if _MIDDLEWARE not in settings.MIDDLEWARE:
        yield Step(
            _("Events do not have the user and the correlation id of their request (optional)."),
            _settings_file(),
            f'MIDDLEWARE += ["{_MIDDLEWARE}"]',
        )


def _migrations(using: str) -> Iterator[Step]:
    is_default = using == DEFAULT_DB_ALIAS
    if _is_unmigrated(using):
        yield Step(
            _("The database %(name)s lacks the tables of the outbox.") % {"name": using},
            "shell",
            f"python manage.py migrate{'' if is_default else f' --database {using}'}",
        )


def _is_unmigrated(using: str) -> bool:
    try:
        executor = MigrationExecutor(connections[using])
        return bool(executor.migration_plan(executor.loader.graph.leaf_nodes("outbox")))
    except DatabaseError:  # it does not exist yet, or cannot be reached
        return True


def _processes() -> str:
    if celery_in_use() is None:
        return (
            _("Run a process that relays and delivers, without a broker:") + "\n\n"
            "       python manage.py outbox work --loglevel INFO\n\n"
        )
    package = _package()
    return (
        _("Run a worker, which is also the relay, and beat:") + "\n\n"
        f"       celery -A {package} worker --loglevel INFO\n"
        f"       celery -A {package} beat --loglevel INFO\n\n"
    )


def _run() -> str:
    return (
        _processes() + _("Create an app with an event, a handler and a test:") + "\n\n"
        "       python manage.py outbox startapp parcels\n\n"
        + _("Examine the running system:")
        + "\n\n"
        "       python manage.py outbox doctor"
    )


def _package() -> str:
    return str(settings.SETTINGS_MODULE).partition(".")[0]


def _folder() -> Path:
    """Return the folder of the project's package."""
    spec = find_spec(_package())
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else Path.cwd()


def _settings_file() -> str:
    module = import_module(str(settings.SETTINGS_MODULE))
    return _("%(file)s, at its end") % {"file": _shown(Path(str(module.__file__)))}


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

"""The ways to run the outbox, as the page about other projects offers them.

DJANGO_OF_PROJECTS names the release of Django. Without it each way has one of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.environments import Environment
from tests.docs.pages import Page
from tests.docs.projects import BROKER, Project, chosen
from tests.package.built import Distribution

PAGE = Page("docs/how-to/use-outbox-in-your-project.md")
#: The releases of Django. Django 6 needs Python 3.12.
LOWEST = "5.2"
MIDDLE, HIGHEST = (LOWEST, LOWEST) if sys.version_info < (3, 12) else ("6.0", "6.1")
#: What the readers with the lowest release choose.
OLD = f"on Django {LOWEST}"
GIVEN = os.environ.get("DJANGO_OF_PROJECTS")
#: A database in the settings.
NAME = '"NAME": "{}"'


@dataclass(frozen=True)
class Way:
    """One way to run the outbox in a project, as the page describes it.

    Attributes:
        name: the name in the page's table of lines and seconds.
        choices: what its reader chooses, in the page's words.
        examined: a line of the doctor.
        django: the release of Django in the usual run.
        worker: the command of the page that runs the handlers.
        logged: what the worker logs beside the handler.
        handlers: those that must have done their work.
    """

    name: str
    choices: frozenset[str]
    examined: str
    django: str
    worker: str = "python manage.py outbox work --loglevel INFO"
    logged: str = "Working"
    handlers: tuple[str, ...] = ("parcels.log_parcel",)

    @property
    def release(self) -> str:
        """The release of Django in this run."""
        return GIVEN or self.django

    @property
    def has_backport(self) -> bool:
        """Whether the package django-tasks stands in for Django's own module."""
        return self.release == LOWEST

    def of(self, text: str) -> str:
        """Return a part of the page without what the readers of other ways do."""
        old = {OLD} if self.has_backport else set()
        return chosen(text, self.choices | old)


CELERY = Way(
    "with Celery, on SQLite",
    frozenset({"with Celery", "on SQLite"}),
    examined="worker_prefetch_multiplier is 4",
    django=HIGHEST,
    worker="celery -A yourproject worker --loglevel INFO",
    logged="ready",
)
SQLITE = Way(
    "without a broker, on SQLite",
    frozenset({"without a broker", "on SQLite"}),
    examined="Processes see the commits of others in the database file.",
    django=LOWEST,
)
POSTGRESQL = Way(
    "without a broker, on PostgreSQL",
    frozenset({"without a broker", "on PostgreSQL"}),
    examined="NOTIFY",
    django=MIDDLE,
)
TASKS = Way(
    "with django.tasks, on SQLite",
    frozenset({"without a broker", "with django.tasks", "on SQLite"}),
    examined="queue default: Processes of outbox work that serve it, seen within 30 s: 1.",
    django=HIGHEST,
    logged="the label of p1 was sent",
    handlers=("parcels.log_parcel", "tasks.default.default"),
)
OFFERED = [CELERY, SQLITE, POSTGRESQL, TASKS]
_IDS = ["celery", "sqlite", "postgresql", "tasks"]
_MARKS = [
    [pytest.mark.once, pytest.mark.servers],
    [pytest.mark.once],
    [pytest.mark.postgresql],
    [pytest.mark.once],
]
WAYS = [
    pytest.param(way, marks=marks, id=name)
    for way, marks, name in zip(OFFERED, _MARKS, _IDS, strict=True)
]

Begin = Callable[[Way], Project]


@pytest.fixture
def begin(
    tmp_path: Path, distribution: Distribution, request: pytest.FixtureRequest
) -> Iterator[Begin]:
    """Return a function that makes an empty folder, and an environment without any package."""
    begun: list[Project] = []

    def make(way: Way) -> Project:
        replaced = dict(_replaced(way, request))
        environment = Environment(tmp_path, wheels=distribution.wheel.parent, django=way.release)
        (tmp_path / "project").mkdir()
        begun.append(Project(tmp_path / "project", environment, replaced))
        return begun[-1]

    yield make
    for project in begun:
        project.close()


def _replaced(way: Way, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Yield the addresses and names of the page that the test replaces; start their servers."""
    if "with Celery" in way.choices:
        yield BROKER, request.getfixturevalue("valkey").url
    if "on PostgreSQL" in way.choices:
        path = urlsplit(request.getfixturevalue("database")).path
        yield NAME.format("yourproject"), NAME.format(path.lstrip("/"))
    if way.has_backport:  # as the page says
        yield "django.tasks", "django_tasks"


@pytest.fixture
def project(begin: Begin) -> Project:
    """Return the project of a test that needs no certain release of Django."""
    return begin(replace(CELERY, django=LOWEST))

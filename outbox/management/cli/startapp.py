"""The subcommand startapp: an app with an event, a service that emits it, a handler and a test."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from django.apps import apps
from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.events import FACTS

from .common import Options, Write, not_written

_FILES: Mapping[str, str] = {
    "__init__.py": "",
    "apps.py": """\
from django.apps import AppConfig


class {app_class}Config(AppConfig):
    name = "{package}"
""",
    "events.py": '''\
from uuid import UUID

from outbox import DomainEvent


class {event}(DomainEvent, key="{noun}_id"):
    """{Words} was created."""

    {noun}_id: UUID
''',
    "services.py": '''\
from uuid import UUID, uuid4

from django.db import transaction

from outbox import emit

from .events import {event}


def create_{noun}() -> UUID:
    """Store {words} and its event: both, or neither."""
    {noun}_id = uuid4()
    with transaction.atomic():
        # Save your rows here.
        emit({event}({noun}_id={noun}_id))
    return {noun}_id
''',
    "handlers.py": '''\
import logging
from uuid import UUID

from outbox import subscribe

logger = logging.getLogger(__name__)


@subscribe("{app}.{event}")
def log_{noun}({noun}_id: UUID) -> None:
    """Log {words}. Replace this by the effect that you need."""
    logger.info("{noun} %s was created", {noun}_id)
''',
    "test_handlers.py": """\
from django.test import TestCase

from outbox.testing import OutboxTestMixin

from .services import create_{noun}


class TestA{Noun}(OutboxTestMixin, TestCase):
    def test_is_logged_once(self) -> None:
        {noun}_id = create_{noun}()

        with self.assertLogs("{package}.handlers", "INFO") as logs:
            self.outbox.deliver_all()

        self.assertEqual([str({noun}_id) in line for line in logs.output], [True])
""",
}


class StartApp:
    """Create an app with an event, a service that emits it, a handler and a test."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the app's name and --event."""
        parser.add_argument("name", help=_("name of the app, such as parcels"))
        parser.add_argument(
            "--event", default="", metavar="CLASS", help=_("the event's class, such as ParcelSent")
        )

    def run(self, options: Options, write: Write) -> None:
        """Write the files below the current folder. Raise `CommandError` if one would be lost."""
        name = options["name"]
        _require_free(name)
        names = _names(name, event=options["event"])
        folder = Path(name)
        try:
            folder.mkdir()
            for file, template in _FILES.items():
                (folder / file).write_text(template.format(**names))
                write(f"{folder / file}")
        except OSError as error:
            raise CommandError(not_written(folder, error)) from error
        write(str(_NEXT).format(**names))


_NEXT = gettext_lazy("""
Next:
  1. Add "{package}" to INSTALLED_APPS.
  2. python manage.py migrate             stores the subscription of the handler
  3. python manage.py outbox catalogue    records the event's fields in {app}/events.lock.json
  4. python manage.py test {app}""")


def _require_free(name: str) -> None:
    is_usable = name.isidentifier() and not name.startswith("_")
    if not is_usable or iskeyword(name) or name != name.lower():
        raise CommandError(
            _(
                "%(name)r is no name of an app. Use small letters, digits and underscores, such as "
                "parcels."
            )
            % {"name": name}
        )
    if Path(name).exists():
        text = _("The folder %(name)s exists. Choose another name; nothing was changed.")
        raise CommandError(text % {"name": name})
    if name in apps.app_configs:
        text = _("%(name)s is the label of an installed app. Choose another name.")
        raise CommandError(text % {"name": name})
    if find_spec(name) is not None:
        text = _("%(name)s is the name of an installed module. Choose another name.")
        raise CommandError(text % {"name": name})


def _names(app: str, *, event: str) -> dict[str, str]:
    """Return the names in the templates. "parcels" has the noun "parcel"."""
    noun = app[:-1] if app.endswith("s") and not app.endswith("ss") and len(app) > 1 else app
    if (key := f"{noun}_id") in FACTS:
        text = _(
            "%(key)s is the name of a fact that every event has, so the event of an app %(app)s "
            "cannot have it as its key. Choose another name."
        )
        raise CommandError(text % {"key": key, "app": app})
    words = noun.replace("_", " ")
    article = "an" if words[0] in "aeiou" else "a"
    if event and (not event.isidentifier() or iskeyword(event)):
        text = _("%(event)r is no name of a class. Use one such as ParcelSent.")
        raise CommandError(text % {"event": event})
    return {
        "app": app,
        "package": app,
        "app_class": _camel(app),
        "event": event or f"{_camel(noun)}Created",
        "noun": noun,
        "Noun": _camel(noun),
        "words": f"{article} {words}",
        "Words": f"{article.capitalize()} {words}",
    }


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))

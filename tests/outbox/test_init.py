"""`outbox init` and `outbox startapp`. In a new project: tests/docs/test_own_project.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, connections
from pytest_django import Settings

from outbox.management.cli.init import missing
from tests.outbox.command import outbox_command, refused

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.django_db
class TestInit:
    def test_finds_nothing_in_a_complete_project(self):
        printed = outbox_command("init")

        assert printed.startswith("Nothing is missing.")
        assert "celery -A tests worker" in printed

    @pytest.mark.sqlite
    def test_names_the_options_that_sqlite_lacks(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"timeout": 5})

        [step] = missing()

        options: dict[str, Any] = {"default": {"OPTIONS": {"timeout": 5}}}
        exec(step.text, {"DATABASES": options})
        assert options["default"]["OPTIONS"] == {
            "timeout": 5,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }

    def test_names_time_zones_that_are_off(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: nothing was missing, and `check` refused the project."""
        monkeypatch.setattr(django_settings, "USE_TZ", False)

        [step] = missing()

        assert step.reason.startswith("USE_TZ is False")
        assert step.text == "USE_TZ = True"

    def test_writes_a_celery_app_with_the_settings_of_the_project(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        in_project(folder, monkeypatch)

        app, package = missing()

        assert (app.place, package.place) == ("celery.py", "__init__.py")
        assert '"DJANGO_SETTINGS_MODULE", "tests.outbox.project.settings")' in app.text
        assert 'OUTBOX = {"TRANSPORTS": ["local"]}' in app.reason, "Celery may be there for others."
        compile(app.text, "celery.py", "exec")

    def test_names_a_celery_app_without_the_outbox(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "__init__.py").write_text("from .celery import worker\n")
        (folder / "celery.py").write_text('worker = celery.Celery("mine")\n')
        in_project(folder, monkeypatch)

        [step] = missing()

        assert step.place == "celery.py, at its end"
        assert step.text == "from outbox.celery import install\n\ninstall(worker)"

    def test_names_an_app_that_its_package_does_not_import(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "__init__.py").write_text("")
        (folder / "celery.py").write_text("from outbox.celery import install\n")
        in_project(folder, monkeypatch)

        [step] = missing()

        assert step.place == "__init__.py"
        assert step.text.startswith("from .celery import app as celery_app")


@pytest.mark.django_db
class TestADatabaseThatTheSettingsLack:
    @pytest.fixture(autouse=True)
    def _listed(self, settings: Settings) -> None:
        settings.OUTBOX = {**settings.OUTBOX, "DATABASES": ["default", "archiv"]}

    @pytest.mark.parametrize("command", ["init", "status"])
    def test_is_named_with_the_known_ones(self, folder: Path, command: str):
        """Failed: a traceback of ConnectionDoesNotExist."""
        said = refused(command)

        assert said.startswith('OUTBOX["DATABASES"] names archiv, which DATABASES does not have. ')
        assert "The known aliases are default" in said
        assert "Correct the alias, or add the database to DATABASES." in said
        assert list(folder.iterdir()) == []

    def test_prevents_no_command_for_another_one(self):
        assert "HANDLER" in outbox_command("status", "--database", "default")


@pytest.mark.django_db(transaction=True)
class TestInitOfSeveralDatabases:
    """Failed: it looked at the first one, and printed `migrate` without its alias."""

    def test_names_migrate_for_each(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("outbox.management.cli.init._is_unmigrated", lambda _using: True)

        first, second = missing()

        assert first.text == "python manage.py migrate"
        assert second.text == f"python manage.py migrate --database {shard}"
        assert second.reason == f"The database {shard} lacks the tables of the outbox."

    def test_names_migrate_for_the_database_of_the_router(
        self, shard: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.management.cli.init._is_unmigrated", lambda _using: True)
        monkeypatch.setattr("outbox.databases.listed", lambda: ())
        monkeypatch.setattr("outbox.databases.alias", lambda: shard)

        [step] = missing()

        assert step.text == f"python manage.py migrate --database {shard}"

    @pytest.mark.sqlite
    def test_names_the_options_that_one_lacks(self, shard: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(connections[shard].settings_dict, "OPTIONS", {"timeout": 5})
        monkeypatch.setattr("outbox.management.cli.init._settings_file", lambda: "settings.py")

        [step] = missing()

        assert step.text.startswith(f'DATABASES["{shard}"]')


def in_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the folder as the project's package, whose Celery app is not the current one."""
    monkeypatch.setattr("outbox.management.cli.init._folder", lambda: folder)
    monkeypatch.setattr("outbox.management.cli.init.has_outbox", lambda _app: False)


class TestStartApp:
    def test_writes_files_of_valid_code(self, folder: Path):
        printed = outbox_command("startapp", "parcels")

        files = sorted(path.name for path in (folder / "parcels").iterdir())
        assert files == sorted(
            [
                "__init__.py",
                "apps.py",
                "events.py",
                "handlers.py",
                "services.py",
                "test_handlers.py",
            ]
        )
        for path in (folder / "parcels").iterdir():
            compile(path.read_text(), str(path), "exec")
        assert "class ParcelCreated(DomainEvent, key=" in (folder / "parcels/events.py").read_text()
        assert 'Add "parcels" to INSTALLED_APPS' in printed

    @pytest.mark.parametrize(
        ("arguments", "event", "key"),
        [
            (["news_letters", "--event", "LetterSent"], "LetterSent", "news_letter_id"),
            (["address"], "AddressCreated", "address_id"),
        ],
    )
    def test_names_event_and_key(self, folder: Path, arguments: list[str], event: str, key: str):
        outbox_command("startapp", *arguments)

        [events] = folder.glob("*/events.py")
        assert f'class {event}(DomainEvent, key="{key}")' in events.read_text()

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["1st"], "is no name of an app"),
            (["class"], "is no name of an app"),
            (["Parcels"], "is no name of an app"),
            (["json"], "is the name of an installed module"),
            (["_parcels"], "is no name of an app"),
            (["events"], "event_id is the name of a fact that every event has"),
            (["correlation"], "correlation_id is the name of a fact that every event has"),
            (["sessions"], "is the label of an installed app"),
            (["taken"], "The folder taken exists"),
            (["parcels", "--event", "no class"], "is no name of a class"),
        ],
    )
    def test_changes_nothing_if_a_name_is_not_usable(
        self, folder: Path, arguments: list[str], reason: str
    ):
        (folder / "taken").mkdir()

        assert reason in refused("startapp", *arguments)

        assert [path.name for path in folder.rglob("*")] == ["taken"]

    def test_names_a_folder_that_cannot_be_made(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: a traceback."""

        def refuse(self: Path, *_args: Any) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)

        assert refused("startapp", "parcels") == "parcels cannot be written: Permission denied."


@pytest.fixture(autouse=True)
def _no_folder_is_left() -> Iterator[None]:
    """The commands write below the current folder only."""
    before = set(Path(__file__).parents[2].iterdir())
    yield
    assert set(Path(__file__).parents[2].iterdir()) == before

# No `from __future__ import annotations`: pydantic and the checks see the local classes of tests.

import inspect
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NewType
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.db import connection
from django.db.backends.dummy.base import DatabaseWrapper as DummyWrapper
from psycopg import IsolationLevel
from pydantic import BaseModel, Field

from outbox import DomainEvent, Receipt, events, subscribe, subscriptions
from outbox.checks import check_contracts
from outbox.conf import Conf

HERE = "tests/outbox/test_checks.py"
ROOT = Path(__file__).resolve().parent.parent.parent

OrderId = NewType("OrderId", UUID)


class Line(BaseModel):
    sku: str
    quantity: str


class WantedLine(BaseModel):
    sku: str
    quantity: int


@pytest.fixture(autouse=True)
def only_events_of_the_project() -> Iterator[None]:
    """Leave out, for a test, the events and handlers that other test modules define on import."""
    known, handlers = dict(events.registry), list(subscriptions.registry)
    for name, classes in known.items():
        if any(_is_of_a_test(event.__module__) for event in classes):
            del events.registry[name]
    subscriptions.registry[:] = [
        one for one in handlers if not _is_of_a_test(one.function.__module__)
    ]
    yield
    events.registry.clear()
    events.registry.update(known)
    subscriptions.registry[:] = handlers


def _is_of_a_test(module: str) -> bool:
    return module.startswith("tests.") and not module.startswith("tests.outbox.project.")


@pytest.fixture
def parcel_sent(own_registry: None) -> type[DomainEvent]:
    class ParcelSent(DomainEvent, key="parcel_id"):
        """A parcel left the house."""

        parcel_id: UUID
        lines: list[Line]
        sent_at: datetime
        note: str = ""

    return ParcelSent


@pytest.fixture
def parcel_lost(own_registry: None) -> type[DomainEvent]:
    class ParcelLost(DomainEvent, key="parcel_id"):
        """Nobody knows where it is."""

        parcel_id: UUID

    return ParcelLost


def complaints() -> list[CheckMessage]:
    return run_checks(tags=["outbox"])


def the_complaint() -> CheckMessage:
    found = complaints()
    assert len(found) == 1, found
    return found[0]


def line_of(text: str) -> int:
    """Return the number of the line of this file that begins with `text`."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.lstrip().startswith(text))


class TestTheProject:
    @pytest.mark.django_db  # Django 6.1 asks the database whether it stores JSON
    def test_passes_all_checks(self):
        call_command("check", fail_level="WARNING")


@pytest.mark.usefixtures("parcel_sent")
class TestAValidHandler:
    def test_reads_fields_in_its_own_types_and_facts(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(
            parcel_id: OrderId,
            lines: list[dict[str, Any]],
            note: str,
            event_id: UUID,
            emitted_at: datetime,
            causation_id: UUID | None,
            attempt: int,
            key: str,
        ): ...

        @subscribe("tests.ParcelSent", atomic=False)
        def print_label(parcel_id: str, sent_at: datetime, receipt: Receipt): ...

        assert complaints() == []

    def test_may_leave_facts_unannotated_or_vague(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(key, actor: Any, event_id: OrderId, attempt: Annotated[int, "nth"]): ...

        assert complaints() == []

    def test_is_not_required(self, parcel_lost):
        assert complaints() == []


@pytest.mark.usefixtures("parcel_sent")
class TestAnUnknownEvent:
    def test_is_an_error_at_the_handler(self):
        @subscribe("tests.ParcelSend")
        def file_parcel(parcel_id: UUID): ...

        complaint = the_complaint()

        line = file_parcel.__code__.co_firstlineno
        assert str(complaint).startswith(
            f"{HERE}:{line}: (outbox.E001) tests.file_parcel subscribes to"
        )
        assert "tests.ParcelSend, which no installed app declares" in complaint.msg

    def test_suggests_a_similar_event_with_its_place(self):
        @subscribe("tests.ParcelSend")
        def file_parcel(parcel_id: UUID): ...

        line = line_of("class ParcelSent(")
        assert the_complaint().hint == f"Did you mean tests.ParcelSent ({HERE}:{line})?"

    def test_is_found_in_another_app(self):
        @subscribe("logistics_of_another_name.ParcelSent")
        def file_parcel(parcel_id: UUID): ...

        assert "Did you mean tests.ParcelSent (" in str(the_complaint().hint)

    def test_lists_the_events_of_its_app(self):
        @subscribe("tests.Zzz")
        def file_parcel(parcel_id: UUID): ...

        assert the_complaint().hint == "tests declares tests.ParcelSent."

    def test_lists_the_apps_with_events(self):
        @subscribe("xyz.Qqq")
        def file_parcel(parcel_id: UUID): ...

        hint = str(the_complaint().hint)

        assert "No app 'xyz' declares events. Apps with events: " in hint
        assert "depot" in hint

    def test_is_an_error_beside_a_known_one(self):
        @subscribe("tests.ParcelSent", "tests.ParcelSend")
        def file_parcel(parcel_id: UUID): ...

        assert the_complaint().id == "outbox.E001"


@pytest.mark.usefixtures("parcel_sent")
class TestAParameter:
    def test_must_be_a_field_or_a_fact(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(parcel: UUID): ...

        complaint = the_complaint()

        line = line_of("class ParcelSent(")
        assert complaint.id == "outbox.E002"
        assert complaint.msg == (
            "tests.file_parcel reads parcel, which is neither a field of tests.ParcelSent "
            f"({HERE}:{line}) nor a fact."
        )
        assert complaint.hint == "Did you mean parcel_id?"

    def test_is_compared_with_facts(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(emited_at: datetime): ...

        assert the_complaint().hint == "Did you mean emitted_at?"

    def test_with_a_default_must_be_a_field_or_a_fact(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(weight: int = 0): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E002"
        assert "It would always have its default" in complaint.msg
        assert str(complaint.hint).startswith("Fields: parcel_id, lines, sent_at, note. Facts")

    def test_must_be_in_each_subscribed_event(self, parcel_lost):
        @subscribe("tests.ParcelSent", "tests.ParcelLost")
        def file_parcel(parcel_id: UUID, note: str = ""): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E002"
        assert "neither a field of tests.ParcelLost" in complaint.msg

    def test_must_fit_the_field(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(lines: list[WantedLine]): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E003"
        assert complaint.msg == (
            "tests.file_parcel cannot read every tests.ParcelSent "
            f"({HERE}:{line_of('class ParcelSent(')}). "
            "lines[].quantity: the event carries a string, the handler reads an integer."
        )

    def test_with_a_default_must_fit_the_field(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(note: int = 0): ...

        assert the_complaint().id == "outbox.E003"

    def test_must_be_in_every_payload_or_have_a_default(self, own_registry):
        class Shy(DomainEvent, key="id"):
            id: UUID
            note: Annotated[str, Field(default="", exclude_if=lambda value: not value)]

        @subscribe("tests.Shy")
        def insist(note: str): ...

        @subscribe("tests.Shy")
        def put_up(note: str = ""): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E003"
        assert complaint.msg.startswith("tests.insist ")
        assert "note: the event may omit it, the handler requires it" in complaint.msg

    def test_must_have_a_type_that_json_can_be_read_as(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id: User): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E005"
        assert "has the type User, which cannot be read from JSON" in complaint.msg
        assert "take its id" in str(complaint.hint)

    def test_should_have_an_annotation(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.W001"
        assert not complaint.is_serious()
        assert "The parameter parcel_id of tests.file_parcel has no annotation" in complaint.msg

    def test_must_have_annotations_that_resolve(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id: "Missing", nonsense: UUID): ...  # type: ignore[name-defined]  # noqa: F821  on purpose

        unresolved, not_carried = complaints()

        assert unresolved.id == "outbox.E004"
        assert unresolved.msg == (
            "An annotation of tests.file_parcel cannot be resolved: name 'Missing' is not defined."
        )
        assert "TYPE_CHECKING" in str(unresolved.hint)
        assert not_carried.id == "outbox.E002"

    @pytest.mark.parametrize(
        ("fact", "kind", "said", "wanted"),
        [
            ("key", UUID, "UUID", "str"),
            ("event_id", str, "str", "UUID"),
            ("causation_id", UUID, "UUID", "UUID | None"),
            ("emitted_at", str | None, "str | None", "datetime"),
        ],
    )
    def test_for_a_fact_must_have_the_type_of_the_fact(self, fact, kind, said, wanted):
        def file_parcel(**given: Any): ...

        taken = inspect.Parameter(fact, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
        file_parcel.__signature__ = inspect.Signature([taken])  # type: ignore[attr-defined]
        file_parcel.__annotations__ = {fact: kind}
        subscribe("tests.ParcelSent")(file_parcel)

        complaint = the_complaint()

        assert complaint.id == "outbox.E006"
        assert f"is annotated as {said}. The fact has the type {wanted}." in complaint.msg


@pytest.mark.usefixtures("parcel_sent")
class TestAFunction:
    """Failed while `check` alone reported it: the receipt was written, and nothing had run."""

    def test_may_be_async(self):
        @subscribe("tests.ParcelSent")
        async def file_parcel(parcel_id: UUID) -> None: ...

        assert subscriptions.registry[0].is_async
        assert complaints() == []

    def test_must_not_be_an_async_generator(self):
        with pytest.raises(TypeError, match=r"tests\.file_parcel is a generator, so a call"):

            @subscribe("tests.ParcelSent")  # type: ignore[type-var]  # on purpose
            async def file_parcel(parcel_id: UUID) -> AsyncIterator[None]:
                yield

        assert subscriptions.registry == []

    def test_must_not_be_a_generator(self):
        with pytest.raises(TypeError, match=r"tests\.file_parcel is a generator"):

            @subscribe("tests.ParcelSent")  # type: ignore[type-var]  # on purpose
            def file_parcel(parcel_id: UUID) -> Iterator[None]:
                yield

    def test_must_not_be_an_object_whose_call_is_a_generator(self):
        class FileParcel:
            def __call__(self, parcel_id: UUID) -> Iterator[None]:
                yield

        with pytest.raises(TypeError, match="is a generator"):
            subscribe("tests.ParcelSent", name="tests.file_parcel")(FileParcel())  # type: ignore[type-var]  # on purpose

    def test_may_wrap_an_async_function(self):
        async def file_parcel(parcel_id: UUID) -> None: ...

        @subscribe("tests.ParcelSent", name="tests.file_parcel")
        @wraps(file_parcel)
        def call(parcel_id: UUID) -> None:
            async_to_sync(file_parcel)(parcel_id)

        assert [handler.name for handler in subscriptions.registry] == ["tests.file_parcel"]
        assert not subscriptions.registry[0].is_async


@pytest.mark.usefixtures("parcel_sent")
class TestAName:
    def test_is_pinned_once(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id: UUID): ...

        first = file_parcel

        @subscribe("tests.ParcelSent", name="tests.file_parcel")
        def count_parcel(parcel_id: UUID): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E008"
        assert complaint.obj == f"{HERE}:{count_parcel.__code__.co_firstlineno}"
        assert f"({HERE}:{first.__code__.co_firstlineno}" in complaint.msg
        assert 'name="tests.' in str(complaint.hint)

    def test_is_not_taken_over_from_an_existing_handler(self):
        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id: UUID): ...

        @subscribe("tests.ParcelSent", formerly=["tests.file_parcel"])
        def put_parcel_on_file(parcel_id: UUID): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E009"
        assert "takes over the deliveries of tests.file_parcel, which still exists" in complaint.msg

    def test_is_taken_over_by_one_handler_only(self):
        @subscribe("tests.ParcelSent", formerly=["tests.file"])
        def file_parcel(parcel_id: UUID): ...

        @subscribe("tests.ParcelSent", formerly=["tests.file"])
        def put_parcel_on_file(parcel_id: UUID): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E009"
        assert (
            "takes over the deliveries of tests.file, and so does tests.file_parcel"
            in complaint.msg
        )

    def test_may_be_taken_over_from_a_removed_handler(self):
        @subscribe("tests.ParcelSent", formerly=["tests.file_parcel"])
        def put_parcel_on_file(parcel_id: UUID): ...

        assert complaints() == []

    def test_belongs_to_one_event(self):
        class ParcelSent(DomainEvent, key="parcel_id"):
            __module__ = "tests.elsewhere"
            parcel_id: UUID

        complaint = the_complaint()

        assert complaint.id == "outbox.E010"
        assert complaint.obj == "tests.elsewhere"
        assert f"({HERE}:{line_of('class ParcelSent(')}" in complaint.msg


class TestAnEvent:
    def test_must_have_annotations_that_resolve(self, own_registry):
        class ParcelSent(DomainEvent, key="parcel_id"):
            parcel_id: "Missing"  # type: ignore[name-defined]  # noqa: F821  on purpose

        @subscribe("tests.ParcelSent")
        def file_parcel(parcel_id: UUID): ...

        complaint = the_complaint()

        assert complaint.id == "outbox.E011"
        assert "The fields of tests.ParcelSent have no JSON form" in complaint.msg
        assert str(complaint.obj).startswith(f"{HERE}:")


class TestTheChecks:
    def test_can_be_limited_to_one_app(self, parcel_sent):
        @subscribe("tests.ParcelSend")
        def file_parcel(parcel_id: UUID): ...

        of_depot = check_contracts(app_configs=[apps.get_app_config("depot")])

        assert of_depot == []
        assert len(check_contracts()) == 1


class TestTheSetting:
    def test_must_exist(self, settings):
        settings.OUTBOX = {"WINDWO": 3}

        complaint = the_complaint()

        assert complaint.id == "outbox.E012"
        assert complaint.msg == "OUTBOX has no setting WINDWO."
        assert complaint.hint == "Did you mean WINDOW?"

    @pytest.mark.parametrize(
        ("name", "value", "hint"),
        [
            ("WINDOW", "200", "Set it to a whole number above zero."),
            ("WINDOW", 2.5, "Set it to a whole number above zero."),
            ("WINDOW", True, "Set it to a whole number above zero."),
            ("BATCH", 0, "Set it to a whole number above zero."),
            ("LEASE_SECONDS", "60", "Set it to a number of seconds above zero, at most a year."),
            ("LEASE_SECONDS", 1e12, "Set it to a number of seconds above zero, at most a year."),
            ("BACKOFF_CAP", 1e12, "Set it to a number of seconds above zero, at most a year."),
            *(
                (name, float("inf"), "Set it to a number of seconds above zero, at most a year.")
                for name in (one.name for one in fields(Conf) if one.type == "float")
            ),
            ("NUDGE", 1, "Set it to True or False."),
            ("ARCHIVE", 7, "Set it to a string, the path of a folder."),
            ("METRICS_TOKEN", None, "Set it to a string, the token that a scraper sends."),
            ("TRACE_URL", True, "Set it to a string, a URL that contains {trace_id}."),
        ],
    )
    def test_must_have_its_type(self, settings, name, value, hint):
        settings.OUTBOX = {name: value}

        complaint = the_complaint()

        assert complaint.id == "outbox.E012"
        assert complaint.msg == f'OUTBOX["{name}"] has the invalid value {value!r}.'
        assert complaint.hint == hint

    @pytest.mark.parametrize("value", [b"hush", ["hush"]])
    def test_that_is_secret_is_not_shown(self, settings, value):
        settings.OUTBOX = {"METRICS_TOKEN": value}

        complaint = the_complaint()

        kind = type(value).__name__
        assert complaint.msg == f'OUTBOX["METRICS_TOKEN"] has an invalid value of type {kind}.'

    @pytest.mark.parametrize("name", [one.name for one in fields(Conf) if one.type == "str"])
    def test_that_is_a_text_is_refused_if_it_is_none(self, settings, name):
        """As `os.environ.get` returns it."""
        settings.OUTBOX = {name: None}

        complaint = the_complaint()

        assert complaint.id == "outbox.E012"
        assert str(complaint.hint).startswith("Set it to a string, ")

    def test_may_be_left_out_or_changed(self, settings):
        settings.OUTBOX = {"LEASE_SECONDS": 90, "NUDGE": False, "POLL_SECONDS": 0.5}

        assert complaints() == []

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("{'WINDWO': 3}", "OUTBOX has no setting WINDWO."),
            ("{'LEASE_SECONDS': '60'}", "OUTBOX[\"LEASE_SECONDS\"] has the invalid value '60'."),
            ("{'LEASE_SECONDS': 0}", 'OUTBOX["LEASE_SECONDS"] has the invalid value 0.'),
        ],
    )
    def test_that_is_wrong_is_reported_by_manage_py_check(self, tmp_path, given, said):
        """A wrong lease ended each command with a TypeError, or blamed a handler."""
        wrong = f"from tests.outbox.project.settings import *\nOUTBOX = {given}\n"
        (tmp_path / "wrong_settings.py").write_text(wrong)
        command = [sys.executable, "-m", "django", "check", "--settings", "wrong_settings"]

        result = subprocess.run(
            [*command, "--pythonpath", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
        )

        assert result.returncode == 1
        assert f"settings: (outbox.E012) {said}" in result.stderr
        assert "Traceback" not in result.stderr


class TestTimeZones:
    def test_must_be_on(self, monkeypatch: pytest.MonkeyPatch):
        # The fixture `settings` would also change the time zone of open connections.
        monkeypatch.setattr(django_settings, "USE_TZ", False)

        complaint = the_complaint()

        assert complaint.id == "outbox.E098"
        assert complaint.is_serious()
        assert "Set USE_TZ = True" in str(complaint.hint)


class TestADatabase:
    def test_must_be_one_that_the_outbox_supports(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: only `migrate` did, and left the second migration half applied."""
        monkeypatch.setattr(connection, "vendor", "mysql")
        monkeypatch.setitem(connection.settings_dict, "ENGINE", "django.db.backends.mysql")

        complaint = the_complaint()

        assert complaint.id == "outbox.E099"
        assert complaint.msg == (
            'DATABASES["default"] has the engine django.db.backends.mysql. The outbox needs '
            "PostgreSQL, or SQLite 3.35 or later."
        )

    def test_may_be_left_out_where_the_project_is_only_built(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(connection, "vendor", DummyWrapper.vendor)

        assert complaints() == []


@pytest.mark.postgresql
class TestPostgresql:
    @pytest.mark.parametrize(
        ("level", "name"),
        [
            (IsolationLevel.REPEATABLE_READ, "REPEATABLE READ"),
            (IsolationLevel.SERIALIZABLE.value, "SERIALIZABLE"),
            (77, "77"),
        ],
    )
    def test_must_not_read_old_snapshots(
        self, monkeypatch: pytest.MonkeyPatch, level: object, name: str
    ):
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"isolation_level": level})

        complaint = the_complaint()

        assert complaint.id == "outbox.E027"
        assert complaint.is_serious()
        assert f'DATABASES["default"] has the isolation level {name}.' in complaint.msg
        assert 'Remove "isolation_level" from DATABASES["default"]["OPTIONS"]' in str(
            complaint.hint
        )

    @pytest.mark.parametrize("level", [None, IsolationLevel.READ_COMMITTED, 2])
    def test_may_use_read_committed(self, monkeypatch: pytest.MonkeyPatch, level: object):
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"isolation_level": level})

        assert complaints() == []


@pytest.mark.sqlite
class TestSqlite:
    def test_should_take_its_write_lock_early(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"timeout": 30})

        complaint = the_complaint()

        assert complaint.id == "outbox.W002"
        assert not complaint.is_serious()
        assert "transaction_mode is DEFERRED" in complaint.msg
        assert complaint.hint == (
            'Set DATABASES["default"]["OPTIONS"]["transaction_mode"] to "IMMEDIATE".'
        )

    def test_must_have_returning(self, monkeypatch):
        """Failed: each pass of a relay ended with a syntax error, and no check named the cause."""
        monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))

        complaint = the_complaint()

        assert complaint.id == "outbox.E099"
        assert complaint.msg.startswith("SQLite 3.34.1 has no RETURNING")

    def test_may_spell_the_mode_in_any_case(self, monkeypatch):
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"transaction_mode": "immediate"})

        assert complaints() == []

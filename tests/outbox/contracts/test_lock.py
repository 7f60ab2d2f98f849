"""Events compared with their recorded versions: only optional fields may be added."""

import json
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from django.apps import AppConfig
from pydantic import BaseModel, create_model

import tests
from outbox import DomainEvent, events
from outbox.checks.event_classes import check_lock
from outbox.contracts import lock as contract_lock
from tests.outbox.command import outbox_command, refused


class Line(BaseModel):
    sku: str
    quantity: int
    gift_note: str = ""


@pytest.fixture
def app(own_registry: None, tmp_path: Path) -> AppConfig:
    """An app `tests` in a folder of its own, whose lock has the first release's `Sent`."""

    class TestsConfig(AppConfig):
        label = "tests"
        path = str(tmp_path)

    config = TestsConfig("tests", tests)
    declare(sent())
    contract_lock.write(config)
    return config


def sent(**changes: Any) -> dict[str, Any]:
    """The fields of `Sent`, as the first release has them or with changes."""
    fields: dict[str, Any] = {
        "parcel_id": (UUID, ...),
        "lines": (list[Line], ...),
        "note": (str, ""),
    }
    fields |= {"size": (Literal["s", "m"], ...)}
    return {name: field for name, field in {**fields, **changes}.items() if field is not None}


def declare(fields: dict[str, Any], *, key: str = "parcel_id", version: int = 1) -> None:
    """Be a release in which `tests.Sent` has these fields, and is the app's only event."""
    for name in [name for name in events.registry if name.startswith("tests.")]:
        del events.registry[name]
    create_model(
        "Sent", __base__=DomainEvent, __module__=__name__,
        __cls_kwargs__={"key": key, "version": version}, **fields,
    )  # fmt: skip


def complaints(config: AppConfig) -> list[tuple[str | None, str]]:
    return [(one.id, one.msg) for one in check_lock(config)]


class GrownLine(Line):
    colour: str = "white"


class LineWithoutQuantity(BaseModel):
    sku: str
    gift_note: str = ""


class LineWithoutNote(BaseModel):
    sku: str
    quantity: int


class Shape(BaseModel):
    """As GeoJSON names its fields."""

    properties: dict[str, str] = {}


class LineWithText(Line):
    quantity: str  # type: ignore[assignment]  # the change that is not allowed


class TestTheLock:
    def test_reports_nothing_without_a_change(self, app: AppConfig):
        assert complaints(app) == []

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"size": None}, "size: "),
            ({"note": None}, "note: "),
            ({"note": (str, ...)}, "note: a stored event may omit it"),
            ({"weight": (int, ...)}, "weight: a stored event does not carry it"),
            ({"size": (Literal["s"], ...)}, 'size: a stored event carries "m"'),
            ({"size": (Literal["s", "m", "l"], ...)}, 'size: events.py carries "l"'),
            ({"note": (int, 0)}, "note: a stored event carries a string"),
            ({"note": (str | None, "")}, "note: events.py carries null"),
            ({"lines": (list[LineWithText], ...)}, "lines[].quantity: "),
            ({"lines": (list[LineWithoutQuantity], ...)}, "lines[].quantity: "),
            ({"lines": (list[LineWithoutNote], ...)}, "lines[].gift_note: "),
        ],
    )
    def test_refuses_any_other_change(self, app: AppConfig, changes: dict[str, Any], what: str):
        """Seen to fail without the comparison forwards, and without the one backwards."""
        declare(sent(**changes))

        [(number, message)] = complaints(app)

        assert number == "outbox.E022"
        assert what in message

    @pytest.mark.parametrize("kind", [dict[str, str], Line, list[Shape]])
    def test_compares_a_field_called_properties(self, app: AppConfig, kind: Any):
        """Failed with AttributeError or TypeError: its schema was read as a map of schemas."""
        declare(sent(properties=(kind, ...)), version=2)
        contract_lock.write(app)
        assert complaints(app) == []

        declare(sent(properties=(list[int], ...)), version=2)

        assert "properties" in complaints(app)[0][1]

    def test_refuses_another_key(self, app: AppConfig):
        declare(sent(), key="note")

        assert complaints(app)[0][1].endswith("its key was parcel_id and is note.")

    def test_refuses_a_version_that_went_back(self, app: AppConfig):
        declare(sent(), version=2)
        contract_lock.write(app)

        declare(sent())

        assert "went back from 2 to 1" in complaints(app)[0][1]

    def test_accepts_any_change_as_a_new_version(self, app: AppConfig):
        declare(sent(size=None, note=(int, ...)), version=2)

        assert complaints(app) == [
            ("outbox.W020", "tests/events.lock.json is out of date: "
             "version 2 of tests.Sent is new."),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            ({"colour": (str, "white")}, "tests.Sent has new fields: colour"),
            ({"lines": (list[GrownLine], ...)}, "the schema of tests.Sent changed"),
        ],
    )
    def test_asks_to_record_an_optional_field(
        self, app: AppConfig, changes: dict[str, Any], what: str
    ):
        declare(sent(**changes))

        assert complaints(app) == [
            ("outbox.W020", f"tests/events.lock.json is out of date: {what}.")
        ]

    def test_compares_an_optional_field_after_it_was_recorded(self, app: AppConfig):
        declare(sent(colour=(str, "white")))
        contract_lock.write(app)

        declare(sent(colour=(str, ...)))

        assert "colour: a stored event may omit it" in complaints(app)[0][1]

    def test_keeps_earlier_versions(self, app: AppConfig):
        declare(sent(size=None), version=2)
        contract_lock.write(app)

        assert list(contract_lock.read(app)["tests.Sent"]) == ["1", "2"]
        assert contract_lock.schema_of(name="tests.Sent", version=1) is None  # not installed

    def test_ignores_a_changed_docstring(self, app: AppConfig):
        assert "description" not in contract_lock.path_of(app).read_text()

    def test_with_invalid_json_is_an_error(self, app: AppConfig):
        contract_lock.path_of(app).write_text("<<<<<<< HEAD")

        assert complaints(app)[0][0] == "outbox.E022"


class TestAnAppWithoutALock:
    def test_is_not_compared(self, app: AppConfig):
        contract_lock.path_of(app).unlink()
        declare(sent(size=None))

        assert complaints(app) == []


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def alone(self, app: AppConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contract_lock, "apps_with_events", lambda: [app])

    def test_records_new_events(self, app: AppConfig):
        declare(sent(colour=(str, "white")))

        assert "events.lock.json: 1 event" in outbox_command("catalogue")

        assert complaints(app) == []
        assert outbox_command("catalogue").strip() == "Every events.lock.json is up to date."

    def test_checks_without_writing(self, app: AppConfig):
        declare(sent(colour=(str, "white")))
        before = contract_lock.path_of(app).read_text()

        said = refused("catalogue", "--check")

        assert "tests.Sent has new fields: colour" in said
        assert contract_lock.path_of(app).read_text() == before

    def test_does_not_record_an_incompatible_change(self, app: AppConfig):
        """Seen to fail with the lock written first."""
        declare(sent(size=None))
        before = contract_lock.path_of(app).read_text()

        said = refused("catalogue")

        assert "tests.Sent differs from its recorded version 1: size: " in said
        assert '@upcast("tests.Sent", from_version=1)' in said
        assert contract_lock.path_of(app).read_text() == before

    def test_names_a_file_that_cannot_be_written(
        self, app: AppConfig, monkeypatch: pytest.MonkeyPatch
    ):
        """An installed package may be read-only. Failed: a traceback."""

        def refuse(self: Path, *_args: Any) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "write_text", refuse)
        declare(sent(colour=(str, "white")))

        said = refused("catalogue")

        assert said == f"{contract_lock.path_of(app)} cannot be written: Permission denied."

    def test_makes_the_lock_of_a_new_app(self, app: AppConfig):
        contract_lock.path_of(app).unlink()

        outbox_command("catalogue")

        recorded = json.loads(contract_lock.path_of(app).read_text())["events"]
        assert recorded["tests.Sent"]["1"]["schema"]["required"] == ["parcel_id", "lines", "size"]

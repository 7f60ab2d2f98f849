# No `from __future__ import annotations`: pydantic sees the local classes of tests.

from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, computed_field

from outbox import DomainEvent, subscribe
from outbox.contracts.catalogue import CatalogueEntry, catalogue, place, type_name

HERE = "tests/outbox/contracts/test_catalogue.py"


class Line(BaseModel):
    sku: str


@pytest.fixture
def parcel_sent(own_registry: None) -> type[DomainEvent]:
    class ParcelSent(DomainEvent, key="parcel_id", version=2):
        """A parcel left the house.

        It does not come back.
        """

        parcel_id: UUID
        lines: list[Line]
        note: str = Field(default="", description="For the neighbours.")

        @computed_field  # type: ignore[prop-decorator]  # pydantic's own pattern
        @property
        def size(self) -> int:
            return len(self.lines)

    return ParcelSent


def the_entry() -> CatalogueEntry:
    return next(entry for entry in catalogue() if entry.name == "tests.ParcelSent")


def line_of(text: str) -> int:
    """Return the number of the line of this file that begins with `text`."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.lstrip().startswith(text))


class TestTheCatalogue:
    def test_has_every_event_of_the_installed_apps_by_name(self):
        names = [entry.name for entry in catalogue()]

        assert names == sorted(names)
        assert {"freight.ShipmentBooked", "depot.PlaceAssigned"} <= set(names)

    def test_lists_the_handlers_of_an_event(self):
        [placed] = [entry for entry in catalogue() if entry.name == "freight.ShipmentBooked"]

        assert "depot.store_parcel" in [handler.name for handler in placed.handlers]

    def test_includes_an_event_without_a_schema(self, own_registry):
        class ParcelSent(DomainEvent, key="parcel_id"):
            parcel_id: "Missing"  # type: ignore[name-defined]  # noqa: F821  on purpose

        assert [field.name for field in the_entry().fields] == ["parcel_id"]


@pytest.mark.usefixtures("parcel_sent")
class TestAnEntry:
    def test_describes_the_event(self):
        entry = the_entry()

        assert (entry.version, entry.key) == (2, "parcel_id")
        assert entry.description == "A parcel left the house.\n\nIt does not come back."

    def test_has_the_place_of_the_class(self):
        assert the_entry().place == f"{HERE}:{line_of('class ParcelSent(DomainEvent, key')}"

    def test_has_the_fields_of_the_event(self):
        fields = the_entry().fields

        assert [(field.name, field.type, field.is_optional) for field in fields] == [
            ("parcel_id", "UUID", False),
            ("lines", "list[Line]", False),
            ("note", "str", True),
            ("size", "int", False),
        ]
        assert fields[2].description == "For the neighbours."
        assert fields[0].schema["format"] == "uuid"

    def test_has_the_schema_of_the_stored_payload(self):
        schema = the_entry().schema

        assert schema["required"] == ["parcel_id", "lines", "note", "size"]
        assert schema["$defs"]["Line"]["properties"]["sku"]["type"] == "string"

    def test_has_the_handlers_with_their_policy(self):
        @subscribe(
            "tests.ParcelSent",
            "tests.ParcelLost",
            queue="files",
            batch=5,
            window=50,
            lease=90,
            attempts=None,
            backoff_base=1,
            backoff_cap=60,
        )
        def file_parcel(parcel_id: UUID, attempt: int): ...

        [handler] = the_entry().handlers

        assert handler.name == "tests.file_parcel"
        assert handler.place == f"{HERE}:{file_parcel.__code__.co_firstlineno}"
        assert handler.queue == "files"
        assert handler.reads == ("parcel_id", "attempt")
        assert handler.policy == (
            "atomic, 5 in a message, 50 in flight, lease 90 s, unlimited attempts, "
            "backoff 1 s to 1 min"
        )

    def test_may_have_no_handlers(self):
        assert the_entry().handlers == ()


class TestAPlace:
    def test_is_a_full_path_outside_the_working_directory(self, parcel_sent, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        path, _, line = place(parcel_sent).rpartition(":")

        assert path == str(Path(__file__).resolve())
        assert line.isdigit()

    def test_is_a_module_without_a_file(self, own_registry):
        namespace: dict[str, Any] = {"__name__": "typed_in", "DomainEvent": DomainEvent}
        exec("class Typed(DomainEvent, key='id'):\n    id: int", namespace)

        assert place(namespace["Typed"]) == "typed_in"


class TestATypesName:
    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (UUID, "UUID"),
            (list[Line], "list[Line]"),
            (dict[str, UUID | None], "dict[str, UUID | None]"),
            (Literal["a.b"], "Literal['a.b']"),
            (Any, "Any"),
            (None, "None"),
        ],
    )
    def test_is_short(self, kind, name):
        assert type_name(kind) == name

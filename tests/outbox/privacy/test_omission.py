# No `from __future__ import annotations`: pydantic sees the local classes of tests.
"""Sensitive fields are absent from a payload that leaves this system."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from outbox import DomainEvent, Sensitive
from outbox.contracts import lock as contract_lock
from outbox.contracts.json_schemas import recorded_schema
from outbox.events import EventRecord
from outbox.privacy import plans
from outbox.privacy.omission import UndeclaredField, UnknownSchema, without_sensitive
from outbox.privacy.sensitive import masked

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("own_registry")]

SECRET = "hanako@example.co.jp"
PARCEL = UUID(int=1)

TextOrNull = Sensitive[str | None]


class Address(BaseModel):
    street: Sensitive[str]
    country: str


class Depot(BaseModel):
    place: int


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")

    colour: str


class Label(TypedDict, total=False):
    code: str
    note: Sensitive[str]


@pytest.fixture(autouse=True, params=["with a plan", "without a plan"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test twice: most schemas have a plan, and all others must have the same result."""
    if request.param == "without a plan":
        monkeypatch.setattr(plans, "plan_of", lambda _schema: None)


def record(payload: dict[str, Any], *, name: str = "tests.ParcelSent", version: int = 1) -> Any:
    return EventRecord(
        id=PARCEL,
        name=name,
        version=version,
        key="1",
        payload=payload,
        emitted_at=datetime(2026, 11, 28, tzinfo=UTC),
        correlation_id=PARCEL,
    )


def omitted(kind: Any, value: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the payload of an event with one more field of this type, and its omitted fields."""
    fields = {"parcel_id": UUID, "more": kind}
    ParcelSent = type(
        "ParcelSent",
        (DomainEvent,),
        {"__annotations__": fields, "__module__": __name__},
        key="parcel_id",
    )
    event = ParcelSent(parcel_id=PARCEL, more=value)
    made = without_sensitive(record(event.model_dump(mode="json")))
    assert SECRET not in repr(made.payload)
    assert made.payload.pop("parcel_id") == str(PARCEL)
    return made.payload, made.fields


class TestASensitiveField:
    @pytest.mark.parametrize(
        ("kind", "value", "payload", "fields"),
        [
            (str, "plain", {"more": "plain"}, ()),
            (Sensitive[str], SECRET, {}, ("more",)),
            (TextOrNull, SECRET, {}, ("more",)),
            (Sensitive[str] | None, SECRET, {}, ("more",)),
            (TextOrNull, None, {}, ("more",)),
            (str | None, None, {"more": None}, ()),
            (Sensitive[Address], {"street": SECRET, "country": "JP"}, {}, ("more",)),
            (
                Address,
                {"street": SECRET, "country": "JP"},
                {"more": {"country": "JP"}},
                ("more.street",),
            ),
            (
                list[Address],
                [{"street": SECRET, "country": "JP"}, {"street": SECRET, "country": "FR"}],
                {"more": [{"country": "JP"}, {"country": "FR"}]},
                ("more[].street",),
            ),
            (
                dict[str, Address],
                {"home": {"street": SECRET, "country": "JP"}},
                {"more": {"home": {"country": "JP"}}},
                ("more.home.street",),
            ),
            (
                Address | Depot,
                {"street": SECRET, "country": "JP"},
                {"more": {"country": "JP"}},
                ("more.street",),
            ),
            (Address | Depot, {"place": 7}, {"more": {"place": 7}}, ()),
            (dict[str, Sensitive[str]], {"home": SECRET}, {"more": {}}, ("more.home",)),
            (dict[Sensitive[str], int], {SECRET: 1}, {}, ("more",)),
            (dict[Sensitive[int], int], {4711: 1}, {}, ("more",)),
            (list[Sensitive[str]], [SECRET, SECRET], {"more": []}, ("more[]",)),
            (list[Sensitive[str]], [], {"more": []}, ()),
            (tuple[Sensitive[str], int], (SECRET, 7), {"more": [None, 7]}, ("more[]",)),
            (
                Label,
                {"code": "a", "note": SECRET},
                {"more": {"code": "a"}},
                ("more.note",),
            ),
            (Extra, {"colour": "red", "size": 7}, {"more": {"colour": "red", "size": 7}}, ()),
            (Any, {"a": [None, {"b": 1}]}, {"more": {"a": [None, {"b": 1}]}}, ()),
        ],
    )
    def test_is_absent(self, kind, value, payload, fields):
        assert omitted(kind, value) == (payload, fields)

    def test_of_a_null_is_absent(self):
        assert omitted(TextOrNull, None) == ({}, ("more",))

    def test_does_not_change_the_given_payload(self):
        class ParcelSent(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            to: Address

        given = {"parcel_id": str(PARCEL), "to": {"street": SECRET, "country": "JP"}}

        without_sensitive(record(given))

        assert given["to"] == {"street": SECRET, "country": "JP"}

    def test_as_the_key_of_a_mapping_is_masked_in_displays_too(self):
        class ParcelSent(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            owners: dict[Sensitive[str], int]

        payload = {"parcel_id": str(PARCEL), "owners": {SECRET: 1}}

        assert masked(record(payload)) == {"parcel_id": str(PARCEL), "owners": "***"}


class TestAnUnknownEvent:
    def test_is_refused(self):
        with pytest.raises(UnknownSchema, match=r"The sensitive fields of depot.Gone, version 3"):
            without_sensitive(record({"email": SECRET}, name="depot.Gone", version=3))

    def test_is_known_if_its_version_is_recorded(self, monkeypatch: pytest.MonkeyPatch):
        class ParcelSent(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            email: Sensitive[str]

        recorded = recorded_schema(ParcelSent)
        versions = {"depot.Gone": {"3": {"key": "parcel_id", "schema": recorded}}}
        monkeypatch.setattr(contract_lock, "read", lambda _config: versions)
        event = record({"parcel_id": "1", "email": SECRET}, name="depot.Gone", version=3)

        assert without_sensitive(event).payload == {"parcel_id": "1"}


class TestAFieldThatIsNotDeclared:
    """A newer release has added it, or an upcaster has kept it. It may be sensitive."""

    @pytest.mark.parametrize(
        ("payload", "place"),
        [
            ({"email": SECRET}, "email"),
            ({"to": {"country": "JP", "email": SECRET}}, "to.email"),
            ({"stops": [{"country": "JP"}, {"email": SECRET}]}, r"stops\[\].email"),
            ({"mixed": {"email": SECRET}}, "mixed.email"),
            ({"text": {"email": SECRET}}, "text"),
        ],
    )
    def test_is_refused(self, payload, place):
        class ParcelSent(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            to: Address | None = None
            stops: list[Address] = []
            mixed: Address | str = ""
            text: str = ""

        with pytest.raises(UndeclaredField, match=f"has the field {place}, which version 1") as one:
            without_sensitive(record({"parcel_id": "1", **payload}))

        assert SECRET not in str(one.value)

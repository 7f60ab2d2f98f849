# No `from __future__ import annotations`: pydantic sees the local classes of tests.
"""A plan has the same result as reading the schema, and covers the schemas of most events."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from outbox import DomainEvent, Sensitive
from outbox.contracts.json_schemas import recorded_schema
from outbox.events import EventRecord
from outbox.privacy import plans
from outbox.privacy.omission import Omitted, UndeclaredField, without_sensitive

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("own_registry")]

ID = UUID(int=1)


class Colour(Enum):
    RED = "red"


class Address(BaseModel):
    street: Sensitive[str]
    country: str | None = None


class Line(TypedDict, total=False):
    sku: str
    gift_for: Sensitive[str | None]


class Recursive(BaseModel):
    children: list["Recursive"] = []


def declare() -> type[DomainEvent]:
    class ParcelSent(DomainEvent, key="parcel_id"):
        parcel_id: UUID
        note: str = ""
        email: Sensitive[str | None] = None
        phone: Sensitive[str] | None = None
        to: Address | None = None
        lines: list[Line] = []
        marks: dict[str, Sensitive[int]] = {}
        homes: dict[str, Address] = {}
        pair: tuple[Sensitive[str], Address] | None = None
        extra: Any = None

    return ParcelSent


scalars = st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3)
names = st.sampled_from(["street", "country", "sku", "gift_for", "other"])
values = st.recursive(
    scalars,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(names, parts, max_size=3),
    max_leaves=8,
)
fields = (
    "parcel_id",
    "note",
    "email",
    "phone",
    "to",
    "lines",
    "marks",
    "homes",
    "pair",
    "extra",
    "unknown",
)
payloads = st.dictionaries(st.sampled_from(fields), values, max_size=6)


def record(payload: dict[str, Any]) -> EventRecord:
    return EventRecord(
        id=ID,
        name="tests.ParcelSent",
        version=1,
        key="1",
        payload=payload,
        emitted_at=datetime(2026, 11, 28, tzinfo=UTC),
        correlation_id=ID,
    )


def result(event: EventRecord) -> Omitted | str:
    try:
        return without_sensitive(event)
    except UndeclaredField as error:
        return str(error)


class TestAPlan:
    @settings(
        max_examples=400,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(payload=payloads)
    def test_has_the_result_of_reading_the_schema(self, payload: dict[str, Any]):
        declare()
        event = record(payload)
        planned = result(event)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plans, "plan_of", lambda _schema: None)
            read = result(event)

        assert planned == read

    @pytest.mark.parametrize(
        "kind",
        [
            *(str, int, bool, Decimal, datetime, Any, Colour, Literal["a", "b"]),
            *(str | None, Sensitive[str], Sensitive[str] | None, Address, Address | None),
            *(list[Address], dict[str, Address], tuple[int, Address], Line),
        ],
    )
    def test_exists_for_ordinary_fields(self, kind: Any):
        event = type(
            "ParcelSent",
            (DomainEvent,),
            {"__annotations__": {"parcel_id": UUID, "more": kind}, "__module__": __name__},
            key="parcel_id",
        )

        assert plans.plan_of(recorded_schema(event)) is not None

    @pytest.mark.parametrize("kind", [Address | Line, Recursive, dict[Sensitive[str], int]])
    def test_is_missing_for_rare_ones(self, kind: Any):
        event = type(
            "ParcelSent",
            (DomainEvent,),
            {"__annotations__": {"parcel_id": UUID, "more": kind}, "__module__": __name__},
            key="parcel_id",
        )

        assert plans.plan_of(recorded_schema(event)) is None

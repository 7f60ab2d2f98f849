"""The words of an event in a timeline: those of its class, or of its name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field, computed_field

from outbox import DomainEvent, Sensitive, upcast
from outbox.contracts import upcasting
from outbox.monitor.sentences import words_of
from outbox.monitor.timeline import TimelineEvent

PARCEL = UUID(int=7)


@pytest.fixture(autouse=True)
def own_upcasters(own_registry: None) -> Iterator[None]:
    known = list(upcasting.registry)
    upcasting.registry.clear()
    yield
    upcasting.registry[:] = known


def words(name: str, *, version: int = 1, **fields: Any) -> str:
    """Return the words of an event that is stored with these fields."""
    return words_of(
        TimelineEvent(
            id=uuid4(),
            seq=1,
            name=name,
            key=str(PARCEL),
            emitted_at=datetime(2031, 5, 1, tzinfo=UTC),
            emitted_by="",
            actor="",
            causation_id=None,
            correlation_id=uuid4(),
            depth=0,
            payload={"parcel_id": str(PARCEL), **fields},
            version=version,
        )
    )


class TestAnEventOfAnotherVersion:
    @pytest.fixture(autouse=True)
    def weighed(self, own_upcasters: None) -> None:
        """The release in which `weight` is in grams. Before, it was in kilos."""

        class Weighed(DomainEvent, key="parcel_id", version=2):
            parcel_id: UUID
            weight: int

            def in_words(self) -> str:
                return f"Weighed: {self.weight} g"

    def test_is_described_as_handlers_read_it(self):
        """Failed: it had the words of the present version with the stored value."""

        @upcast("tests.Weighed", from_version=1)
        def weigh_in_grams(payload: dict[str, Any]) -> dict[str, Any]:
            return {**payload, "weight": payload["weight"] * 1000}

        assert words("tests.Weighed", weight=3) == "Weighed: 3000 g"
        assert words("tests.Weighed", version=2, weight=3) == "Weighed: 3 g"

    def test_has_the_words_of_its_name_without_an_upcaster(self):
        assert words("tests.Weighed", weight=3) == "Weighed"

    def test_has_the_words_of_its_name_if_it_is_of_a_later_release(self):
        assert words("tests.Weighed", version=3, weight=3) == "Weighed"

    def test_has_no_sensitive_value_that_an_upcaster_has_made(self):
        class Addressed(DomainEvent, key="parcel_id", version=2):
            parcel_id: UUID
            name: Sensitive[str]

            def in_words(self) -> str:
                return f"Addressed to {self.name}"

        @upcast("tests.Addressed", from_version=1)
        def join_names(payload: dict[str, Any]) -> dict[str, Any]:
            name = f"{payload.pop('family')} {payload.pop('given')}"
            return {**payload, "name": name}

        assert words("tests.Addressed", family="Yamada", given="Hanako") == "Addressed to ***"


class TestAnEventOfThisVersion:
    def test_may_have_aliases_and_computed_fields(self):
        """Failed: it had the words of its name."""

        class Priced(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            price: int = Field(alias="amountDue")

            @computed_field  # type: ignore[prop-decorator]  # pydantic's own pattern
            @property
            def total(self) -> int:
                return self.price + 1

            def in_words(self) -> str:
                return f"Priced at {self.total}"

        assert words("tests.Priced", price=4, total=5) == "Priced at 5"

    def test_has_the_words_of_its_name_if_its_own_words_fail(
        self, caplog: pytest.LogCaptureFixture
    ):
        """Failed: the timeline of the whole key was an error."""

        class Packed(DomainEvent, key="parcel_id"):
            parcel_id: UUID
            items: list[str]

            def in_words(self) -> str:
                return f"Packed {self.items[0]}"

        assert words("tests.Packed", items=[]) == "Packed"
        assert "tests.Packed" in caplog.text
        assert "IndexError" in caplog.text

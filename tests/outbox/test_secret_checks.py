"""A secret of pydantic in an event is an error: what is stored are asterisks."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

from collections import deque
from datetime import date
from typing import Annotated, Any
from uuid import UUID

import pytest
from django.core.checks import CheckMessage
from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
    create_model,
    field_serializer,
)

from outbox import DomainEvent, Sensitive
from outbox.checks.event_classes import check_event

pytestmark = pytest.mark.usefixtures("own_registry")

ID = UUID("0190a6c0-0000-7000-8000-000000000001")


class Guest(BaseModel):
    token: SecretStr
    invited: "list[Guest]" = []


def invited(kind: Any) -> Any:
    """Return the class of an event whose field `it` has this type."""
    fields: dict[str, Any] = {"id": (UUID, ...), "it": (kind, ...)}
    return create_model("Invited", __base__=DomainEvent, __cls_kwargs__={"key": "id"}, **fields)


def found(event: type[DomainEvent]) -> list[CheckMessage]:
    return list(check_event(event))


class TestASecret:
    @pytest.mark.parametrize(
        ("kind", "field"),
        [
            (SecretStr, "it"),
            (SecretBytes, "it"),
            (Secret[date], "it"),
            (Sensitive[SecretStr], "it"),
            (SecretStr | None, "it"),
            (dict[str, list[SecretStr]], "it"),
            (deque[SecretStr], "it"),
            (Guest, "it.token"),
            (tuple[Guest, Guest], "it.token"),
        ],
        ids=[
            *("str", "bytes", "date", "sensitive", "optional", "dictionary", "deque"),
            *("model", "models"),
        ],
    )
    def test_is_an_error(self, kind: Any, field: str):
        """Failed: handlers ran with "**********" in place of the value, and no check said so."""
        [complaint] = found(invited(kind))

        assert complaint.id == "outbox.E031"
        assert complaint.msg.startswith(f"The field {field} of tests.Invited is a secret")
        assert "Sensitive[str]" in str(complaint.hint)

    @pytest.mark.parametrize("kind", [SecretStr, Secret[str]], ids=["SecretStr", "Secret"])
    def test_would_be_stored_as_asterisks(self, kind: Any):
        event = invited(kind)(id=ID, it="a-token")

        assert event.model_dump(mode="json")["it"] == "**********"

    def test_is_an_error_in_a_computed_field(self):
        class Invited(DomainEvent, key="id"):
            id: UUID

            @computed_field
            def token(self) -> SecretStr:
                return SecretStr(str(self.id))

        assert "The field token of" in found(Invited)[0].msg


class TestASecretWithASerializer:
    @pytest.mark.parametrize(
        "kind",
        [
            Annotated[SecretStr, PlainSerializer(lambda it: it.get_secret_value())],
            Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")],
        ],
        ids=["function", "method of pydantic"],
    )
    def test_is_stored_as_its_value(self, kind: Any):
        event = invited(kind)

        assert event(id=ID, it="a-token").model_dump(mode="json")["it"] == "a-token"
        assert found(event) == []

    def test_of_its_class_is_stored_as_its_value(self):
        class Invited(DomainEvent, key="id"):
            id: UUID
            token: SecretStr | None = None

            @field_serializer("token", when_used="json")
            def reveal(self, token):
                return token and token.get_secret_value()

        event = Invited(id=ID, token=SecretStr("a-token"))

        assert event.model_dump(mode="json")["token"] == "a-token"
        assert found(Invited) == []

    def test_may_also_be_left_out_of_the_payload(self):
        class Invited(DomainEvent, key="id"):
            id: UUID
            token: SecretStr = Field(default=SecretStr(""), exclude=True)

        assert found(Invited) == []

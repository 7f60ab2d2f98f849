"""ExternalEvent: the base class of events that come from another system."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict

from outbox import events
from outbox.events import DomainEvent


class ExternalEvent(DomainEvent):
    """A fact of another system, as this project reads it.

    Subclass it in the `events.py` of the app that needs it::

        class InvoicePaid(ExternalEvent, source="billing", type="com.example.invoice.paid",
                          key="order_id"):
            \"\"\"An invoice was paid.\"\"\"

            order_id: UUID
            amount: Decimal

    The event's name is `<source>.InvoicePaid`. Its fields have your own types. Fields of the
    message that the class does not declare are neither read nor stored. An alias gives the field's
    name in the message: `amount: Decimal = Field(alias="amountDue")`.

    `source` is a name in `OUTBOX["SOURCES"]`, and `type` the CloudEvents `type` of the messages.
    The other keywords are those of `DomainEvent`. `version` is the version of this class, and not
    of the message. Only the source stores such an event: `emit()` refuses it.

    The class statement raises `TypeError` if `source` or `type` is missing, or as `DomainEvent`.
    """

    # Unknown fields are ignored: the other system may add some at any time.
    model_config = ConfigDict(extra="ignore")

    event_type: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, key: str = "", source: str = "", type: str = "", **kwargs: Any
    ) -> None:
        """Name the event after its source, and register it."""
        if key and not (source and type):
            raise TypeError(
                f"{cls.__name__} comes from another system, so it needs source= and type=: class "
                f'{cls.__name__}(ExternalEvent, source="billing", type="com.example.paid", '
                f"key={key!r})."
            )
        if key:  # `InvoicePaid[int]` keeps those of `InvoicePaid`
            cls.event_source, cls.event_type = source, type
        super().__pydantic_init_subclass__(key=key, **kwargs)

    def __init_subclass__(cls, *, source: str = "", type: str = "", **kwargs: Any) -> None:
        """Accept the class keywords, which pydantic passes to both hooks."""
        super().__init_subclass__(**kwargs)


def declared_by(source: str) -> list[type[ExternalEvent]]:
    """Return the external events of one source, or of all sources for ""."""
    return [
        known[-1]
        for known in events.registry.values()
        if known and issubclass(known[-1], ExternalEvent) and source in ("", known[-1].event_source)
    ]


def find_external(source: str, type: str) -> type[ExternalEvent] | None:
    """Return the event class for messages of this type, or None."""
    return next((one for one in declared_by(source) if one.event_type == type), None)

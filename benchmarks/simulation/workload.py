"""The events of an order, and their handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Handler:
    """A subscriber.

    Attributes:
        name: of the handler.
        queue: the queue of its workers.
        wait: seconds for which it waits for another system, such as the bank.
        cpu: seconds of processor time beyond the one INSERT of the measured handler.
        emits: names of the events that it emits.
        needs: number of calls for one order after which it emits. 2: it joins two branches.
    """

    name: str
    queue: str
    wait: float = 0.0
    cpu: float = 0.0
    emits: Sequence[str] = ()
    needs: int = 1


@dataclass(frozen=True)
class Workload:
    """The subscribers of each event, and the event that an order begins with.

    Attributes:
        first: name of the order's first event.
        last: name of the event whose emission completes the order; "" for none.
        handlers: subscribers by event name. An event without an entry has none.
    """

    first: str
    last: str
    handlers: Mapping[str, Sequence[Handler]] = field(default_factory=dict)

    @property
    def queues(self) -> list[str]:
        """Names of all queues, sorted."""
        return sorted({one.queue for found in self.handlers.values() for one in found})

    def of_one_order(self) -> tuple[list[str], list[Handler]]:
        """Return the events of one order, and the handler of each of its deliveries."""
        events, calls = [self.first], list[Handler]()
        for event in events:  # grows while it is read
            for one in self.handlers.get(event, ()):
                calls.append(one)
                if calls.count(one) % one.needs == 0:
                    events.extend(one.emits)
        return events, calls


#: The project of the benchmarks: one handler, which inserts a row.
ONE_HANDLER = Workload("placed", "", {"placed": [Handler("record_effect", "effects")]})

_DB = 0.002  # a handler of the shop that reads and writes some rows
_BANK, _SMTP = 0.5, 0.05  # assumptions of docs/performance.md

#: An order of the shop until it is shipped (docs/reference/order-process.md). Staff ship it as soon
#: as it is ready.
SHOP = Workload(
    "OrderPlaced",
    "OrderReadyToShip",
    {
        "OrderPlaced": [
            Handler("reserve_stock", "inventory", cpu=_DB, emits=["StockReserved"]),
            Handler("authorize", "bank", wait=_BANK, cpu=_DB, emits=["Authorized", "Reported"]),
            Handler("acknowledge_order", "smtp", wait=_SMTP, cpu=_DB),
            Handler("write_messages", "webhooks", cpu=_DB),
        ],
        "StockReserved": [Handler("confirm", "orders", cpu=_DB, emits=["Confirmed"], needs=2)],
        "Authorized": [Handler("confirm", "orders", cpu=_DB, emits=["Confirmed"], needs=2)],
        "Confirmed": [
            Handler("capture", "bank", wait=_BANK, cpu=_DB, emits=["Captured", "Reported"]),
            Handler("write_messages", "webhooks", cpu=_DB),
        ],
        "Captured": [
            Handler("release", "orders", cpu=_DB, emits=["OrderReadyToShip", "OrderShipped"]),
            Handler("announce_payment", "smtp", wait=_SMTP, cpu=_DB),
        ],
        "OrderReadyToShip": [
            Handler("announce_ready", "smtp", wait=_SMTP, cpu=_DB),
            Handler("write_messages", "webhooks", cpu=_DB),
        ],
        "OrderShipped": [
            Handler("issue_stock", "inventory", cpu=_DB, emits=["StockIssued"]),
            Handler("announce_shipping", "smtp", wait=_SMTP, cpu=_DB),
            Handler("write_messages", "webhooks", cpu=_DB),
        ],
        "Reported": [Handler("record_bank_report", "payments", cpu=_DB)],
    },
)

"""One trace across processes: a collector gets spans of web server, relay and worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bank import API_KEY, BankProcess
from tests.chaos.brokers import broker_under_test
from tests.chaos.collector import Collector, StoredSpan, collecting
from tests.chaos.stack import running_stack
from tests.chaos.test_orders_without_broker import Shop, _customer, _start

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.timeout(600)]

REQUEST = "POST api/orders/"
#: From the request to the last e-mail: the handlers, and the events that each one emits.
CHAIN = [
    ("emit orders.OrderPlaced", REQUEST),
    ("relay orders.OrderPlaced", "emit orders.OrderPlaced"),
    ("inventory.reserve_stock orders.OrderPlaced", "emit orders.OrderPlaced"),
    ("emit inventory.StockReserved", "inventory.reserve_stock orders.OrderPlaced"),
    ("payments.authorize_payment orders.OrderPlaced", "emit orders.OrderPlaced"),
    ("emit payments.PaymentAuthorized", "payments.authorize_payment orders.OrderPlaced"),
    (
        "orders.record_payment_authorized payments.PaymentAuthorized",
        "emit payments.PaymentAuthorized",
    ),
    ("orders.record_stock_reserved inventory.StockReserved", "emit inventory.StockReserved"),
    ("payments.capture_payment orders.OrderConfirmed", "emit orders.OrderConfirmed"),
    ("emit payments.PaymentCaptured", "payments.capture_payment orders.OrderConfirmed"),
    ("orders.release_for_shipping payments.PaymentCaptured", "emit payments.PaymentCaptured"),
    ("emit orders.OrderReadyToShip", "orders.release_for_shipping payments.PaymentCaptured"),
    ("relay orders.OrderReadyToShip", "emit orders.OrderReadyToShip"),
    (
        "notifications.announce_ready_to_ship orders.OrderReadyToShip",
        "emit orders.OrderReadyToShip",
    ),
]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("traced")
    bank = BankProcess(folder / "bank")
    bank.start()
    try:
        broker = broker_under_test(folder / "broker", queues=())
        with running_stack(folder, settings="shop.settings", broker=broker) as stack:
            stack.environment |= {
                "BANK_URL": bank.url,
                "BANK_API_KEY": API_KEY,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process",
            }
            with _customer(stack, folder, port=_start(stack)) as api:
                yield Shop(stack, api)
    finally:
        bank.stop()


def group_and_event(
    spans: list[StoredSpan], is_meant: Callable[[StoredSpan], bool]
) -> set[tuple[str, str]]:
    return {
        (span.attributes["messaging.consumer.group.name"], span.name.partition(" ")[2])
        for span in spans
        if is_meant(span)
    }


def is_attempt(span: StoredSpan) -> bool:
    return span.attributes.get("messaging.operation.type") == "process"


class TestATraceAcrossProcesses:
    def test_covers_the_request_and_all_handlers_and_a_replay_links_to_it(
        self, shop: Shop, collector: Collector
    ):
        shop.place_order()
        shop.stack.wait_until(
            lambda: all(collector.named(name) for name, _parent in CHAIN),
            "every span of the chain came",
        )

        (request,) = collector.named(REQUEST)
        spans = {span.name: span for span in collector.of(request.trace)}
        assert [(name, parent_of(spans, name)) for name, _parent in CHAIN] == CHAIN
        self.waited(shop, lambda: collector.of(request.trace))
        self.came_from_three_processes(spans)
        self.replayed(shop, collector, spans)

    def waited(self, shop: Shop, spans: Callable[[], list[StoredSpan]]) -> None:
        """The time in the outbox is a span of each handler; those beside the chain may end last."""
        shop.stack.wait_until(
            lambda: (
                group_and_event(spans(), lambda span: span.name.startswith("wait "))
                == group_and_event(spans(), is_attempt)
            ),
            "the span of each handler that waited came",
        )
        assert all(span.seconds >= 0 for span in spans())

    def came_from_three_processes(self, spans: dict[str, StoredSpan]) -> None:
        names = (
            "emit orders.OrderPlaced",
            "relay orders.OrderPlaced",
            "inventory.reserve_stock orders.OrderPlaced",
        )
        assert len({spans[name].process for name in names}) == 3

    def replayed(self, shop: Shop, collector: Collector, spans: dict[str, StoredSpan]) -> None:
        """It is a separate trace, with a link to the emission of its event."""
        name = "notifications.acknowledge_order orders.OrderPlaced"
        number = shop.stack.value(
            "SELECT delivery.id FROM outbox_delivery delivery JOIN outbox_subscription "
            "subscription ON subscription.id = subscription_id WHERE handler = ?",
            "notifications.acknowledge_order",
        )

        shop.stack.manage("outbox", "replay", str(number), "--reason", "a test")
        shop.stack.wait_until(lambda: len(collector.named(name)) == 2, "the replay's span came")

        first, again = collector.named(name)
        assert first.trace != again.trace
        assert again.links == {spans["emit orders.OrderPlaced"].id}


def parent_of(spans: dict[str, StoredSpan], name: str) -> str:
    """Return the name of a span's parent in the same trace."""
    by_id = {span.id: span.name for span in spans.values()}
    return by_id.get(spans[name].parent, "") if name in spans else "no such span"

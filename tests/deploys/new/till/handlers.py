from till import book
from till.events import OrderBooked
from till.release import RELEASE

from outbox import EventRecord, Receipt, emit, subscribe


@subscribe("till.OrderPlaced", formerly=["till.book_order"])
def record_order(event: EventRecord, order: str, goods: int, shipping: int) -> None:
    book.write("book", event, amount=goods + shipping)
    emit(OrderBooked(order=order, emitted_with=RELEASE))


@subscribe("till.OrderPlaced", ordered=True)
def charge(event: EventRecord, goods: int, shipping: int) -> None:
    book.write("charge", event, amount=goods + shipping)


@subscribe("till.OrderBooked")
def send_receipt(event: EventRecord) -> None:
    book.write("receipt", event)


@subscribe("till.OrderBooked", atomic=False)
def announce(event: EventRecord, receipt: Receipt) -> None:
    book.call(event.key)
    with receipt:
        book.write("announce", event)


@subscribe("till.OrderBooked")
def thank(event: EventRecord) -> None:
    book.write("thank", event)

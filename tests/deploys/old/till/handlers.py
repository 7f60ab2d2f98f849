from till import book
from till.events import OrderBooked
from till.release import RELEASE

from outbox import EventRecord, Receipt, emit, subscribe


@subscribe("till.OrderPlaced")
def book_order(event: EventRecord, order: str, total: int) -> None:
    book.write("book", event, amount=total)
    emit(OrderBooked(order=order, emitted_with=RELEASE))


@subscribe("till.OrderPlaced", ordered=True)
def charge(event: EventRecord, total: int) -> None:
    book.write("charge", event, amount=total)


@subscribe("till.OrderBooked")
def send_receipt(event: EventRecord) -> None:
    book.write("receipt", event)


@subscribe("till.OrderBooked", atomic=False)
def announce(event: EventRecord, receipt: Receipt) -> None:
    book.call(event.key)
    with receipt:
        book.write("announce", event)

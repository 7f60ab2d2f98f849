from outbox import DomainEvent


class OrderPlaced(DomainEvent, key="order"):
    order: str
    total: int
    emitted_with: str


class OrderBooked(DomainEvent, key="order"):
    order: str
    emitted_with: str

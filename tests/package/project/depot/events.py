"""Events of parcels. `number` counts a parcel's events of a kind, `emitted_with` is a release."""

from outbox import DomainEvent


class OfParcel(DomainEvent):
    parcel: str
    number: int
    emitted_with: str


class Moved(OfParcel, key="parcel"): ...


class Refused(OfParcel, key="parcel"): ...


class Postponed(OfParcel, key="parcel"): ...


class Held(OfParcel, key="parcel"): ...


class Stopped(OfParcel, key="parcel"): ...


class Abandoned(OfParcel, key="parcel"): ...


class Reminded(OfParcel, key="parcel"): ...


class Carried(OfParcel, key="parcel"): ...

from outbox import subscribe
from tests.chaos.edges.harbour.models import Berth
from tests.chaos.edges.names import SOURCES


@subscribe(*(f"{source}.ShipBerthed" for source in SOURCES))
def record_berth(message: str) -> None:
    Berth.objects.create(message=message)

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from till.events import OrderPlaced
from till.models import Order
from till.release import RELEASE

from outbox import emit


def place_order(_request: HttpRequest, order: str) -> JsonResponse:
    with transaction.atomic():
        Order.objects.create(number=order, placed_with=RELEASE, shipping=280)
        emit(OrderPlaced(order=order, goods=1000, shipping=280, emitted_with=RELEASE))
    return JsonResponse({"release": RELEASE}, status=201)

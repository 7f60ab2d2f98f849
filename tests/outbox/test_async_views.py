"""An async view calls a sync service. The events of the service have the request's context."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from django.urls import path
from pytest_django import Settings

from outbox import DomainEvent, emit
from outbox.models import Event


class OrderPlaced(DomainEvent, key="order_id"):
    order_id: str


def place_order() -> UUID:
    with transaction.atomic():
        return emit(OrderPlaced(order_id="1"))


async def place(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await sync_to_async(place_order)()))


urlpatterns = [path("place", place)]


@pytest.mark.django_db(transaction=True)
class TestAnAsyncView:
    def test_emits_with_the_correlation_id_of_its_request(self, settings: Settings, no_nudge: None):
        settings.ROOT_URLCONF = __name__
        settings.MIDDLEWARE = ["outbox.RequestContextMiddleware"]
        given = str(uuid4())

        get = async_to_sync(AsyncClient().get)
        response = get("/place", headers={"X-Correlation-ID": given})

        event = Event.objects.get(id=response.content.decode())
        assert str(event.correlation_id) == given == response["X-Correlation-ID"]

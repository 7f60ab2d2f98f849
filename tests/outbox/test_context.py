from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from outbox import DomainEvent, RequestContextMiddleware, emit
from outbox.context import current_cause
from outbox.models import Event


class Asked(DomainEvent, key="thing_id"):
    thing_id: UUID


def answer(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        emit(Asked(thing_id=uuid4()))
        emit(Asked(thing_id=uuid4()))
    return HttpResponse()


@pytest.mark.django_db
class TestARequest:
    def test_gives_its_events_one_correlation_id_and_tells_it(self):
        response = RequestContextMiddleware(answer)(RequestFactory().get("/"))

        found = set(Event.objects.values_list("correlation_id", flat=True))
        assert {str(id) for id in found} == {response["X-Correlation-ID"]}

    def test_keeps_the_correlation_id_that_it_brings(self):
        given = uuid4()
        request = RequestFactory().get("/", headers={"X-Correlation-ID": str(given)})

        response = RequestContextMiddleware(answer)(request)

        assert response["X-Correlation-ID"] == str(given)
        assert set(Event.objects.values_list("correlation_id", flat=True)) == {given}

    @pytest.mark.parametrize("header", ["", "not a uuid", "'; DROP TABLE", "x" * 10_000])
    def test_replaces_what_is_no_uuid(self, header):
        request = RequestFactory().get("/", headers={"X-Correlation-ID": header})

        response = RequestContextMiddleware(answer)(request)

        assert UUID(response["X-Correlation-ID"]).version == 7

    def test_names_the_user_that_the_view_found(self):
        user = User.objects.create(username="anna")

        def view(request: HttpRequest) -> HttpResponse:
            request.user = user  # token authentication runs inside the view
            return answer(request)

        RequestContextMiddleware(view)(RequestFactory().get("/"))

        assert set(Event.objects.values_list("actor", flat=True)) == {f"user:{user.pk}"}

    def test_names_nobody_where_nobody_is_known(self):
        request = RequestFactory().get("/")
        request.user = AnonymousUser()

        RequestContextMiddleware(answer)(request)

        assert set(Event.objects.values_list("actor", flat=True)) == {""}

    def test_leaves_nothing_behind(self):
        def fail(request: HttpRequest) -> HttpResponse:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            RequestContextMiddleware(fail)(RequestFactory().get("/"))

        assert current_cause().correlation_id != current_cause().correlation_id

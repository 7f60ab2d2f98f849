from __future__ import annotations

from typing import Any
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


def asked_by(user: User | None, correlation_id: UUID) -> str:
    """Have a user send a request under a correlation id; return the id of the answer."""

    def view(request: HttpRequest) -> HttpResponse:
        request.user = user or AnonymousUser()  # token authentication runs inside the view
        return answer(request)

    request = RequestFactory().get("/", headers={"X-Correlation-ID": str(correlation_id)})
    return str(RequestContextMiddleware(view)(request)["X-Correlation-ID"])


def actors_under(correlation_id: UUID) -> set[str]:
    return set(Event.objects.filter(correlation_id=correlation_id).values_list("actor", flat=True))


@pytest.mark.django_db
class TestACorrelationIdOfSomebodyElse:
    @pytest.fixture
    def anna(self) -> User:
        return User.objects.create(username="anna")

    @pytest.fixture
    def ben(self) -> User:
        return User.objects.create(username="ben")

    def test_is_replaced_before_an_event_is_stored_under_it(self, anna: User, ben: User):
        given = uuid4()
        asked_by(anna, given)

        answered = asked_by(ben, given)

        assert answered != str(given)
        assert actors_under(given) == {f"user:{anna.pk}"}
        assert actors_under(UUID(answered)) == {f"user:{ben.pk}"}
        assert Event.objects.filter(correlation_id=answered).count() == 2

    def test_is_replaced_for_somebody_who_is_not_signed_in(self, anna: User):
        given = uuid4()
        asked_by(anna, given)

        assert asked_by(None, given) != str(given)
        assert actors_under(given) == {f"user:{anna.pk}"}

    def test_may_be_their_own_from_an_earlier_request(self, anna: User):
        given = uuid4()

        assert [asked_by(anna, given), asked_by(anna, given)] == [str(given)] * 2
        assert Event.objects.filter(correlation_id=given).count() == 4

    def test_may_be_joined_by_a_user_who_may_view_events(self, anna: User):
        given, root = uuid4(), User.objects.create_superuser("root")
        asked_by(anna, given)

        assert asked_by(root, given) == str(given)
        assert actors_under(given) == {f"user:{anna.pk}", f"user:{root.pk}"}

    def test_is_looked_for_once_and_only_where_it_was_brought(
        self, anna: User, django_assert_num_queries: Any
    ):
        transaction_and_events = 4

        with django_assert_num_queries(transaction_and_events + 1):
            asked_by(anna, uuid4())
        with django_assert_num_queries(transaction_and_events):
            RequestContextMiddleware(answer)(RequestFactory().get("/"))

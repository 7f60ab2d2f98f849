from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from outbox import DomainEvent, RequestContextMiddleware, acting_as, correlated, emission, emit
from outbox.context import current_cause, current_correlation_id
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
    def test_gives_its_events_one_correlation_id_and_returns_it(self):
        response = RequestContextMiddleware(answer)(RequestFactory().get("/"))

        found = set(Event.objects.values_list("correlation_id", flat=True))
        assert {str(id) for id in found} == {response["X-Correlation-ID"]}

    def test_keeps_the_correlation_id_of_its_header(self):
        given = uuid4()
        request = RequestFactory().get("/", headers={"X-Correlation-ID": str(given)})

        response = RequestContextMiddleware(answer)(request)

        assert response["X-Correlation-ID"] == str(given)
        assert set(Event.objects.values_list("correlation_id", flat=True)) == {given}

    @pytest.mark.parametrize("header", ["", "not a uuid", "'; DROP TABLE", "x" * 10_000])
    def test_replaces_a_correlation_id_that_is_no_uuid(self, header):
        request = RequestFactory().get("/", headers={"X-Correlation-ID": header})

        response = RequestContextMiddleware(answer)(request)

        assert UUID(response["X-Correlation-ID"]).version == 7

    def test_names_the_user_that_the_view_authenticated(self):
        user = User.objects.create(username="anna")

        def view(request: HttpRequest) -> HttpResponse:
            request.user = user  # token authentication runs inside the view
            return answer(request)

        RequestContextMiddleware(view)(RequestFactory().get("/"))

        assert set(Event.objects.values_list("actor", flat=True)) == {f"user:{user.pk}"}

    @pytest.mark.parametrize(
        "user", [AnonymousUser(), SimpleNamespace(is_authenticated=True), None]
    )
    def test_names_no_actor_without_a_user(self, user: Any):
        """Failed for a user that is no row, as token authentication may set for a service."""
        request = RequestFactory().get("/")
        request.user = user

        RequestContextMiddleware(answer)(request)

        assert set(Event.objects.values_list("actor", flat=True)) == {""}

    def test_leaves_no_context_behind(self):
        def fail(request: HttpRequest) -> HttpResponse:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            RequestContextMiddleware(fail)(RequestFactory().get("/"))

        assert current_cause().correlation_id != current_cause().correlation_id


@pytest.mark.django_db
class TestACorrelatedBlock:
    """An answer that arrives by a request of its own."""

    def test_gives_its_events_the_correlation_id_of_the_question(self):
        question = uuid4()

        def view(request: HttpRequest) -> HttpResponse:
            with correlated(question):
                assert current_correlation_id() == str(question)
                return answer(request)

        response = RequestContextMiddleware(view)(RequestFactory().get("/"))

        assert set(Event.objects.values_list("correlation_id", flat=True)) == {question}
        assert response["X-Correlation-ID"] != str(question)

    def test_keeps_the_actor(self):
        question = uuid4()

        with acting_as("job:import"), correlated(question):
            answer(HttpRequest())

        assert actors_under(question) == {"job:import"}

    def test_may_have_an_actor_of_its_own(self):
        question = uuid4()

        with correlated(question), acting_as("job:import"):
            answer(HttpRequest())

        assert actors_under(question) == {"job:import"}

    def test_has_the_user_that_the_view_sets_within_it(self):
        """Token authentication runs inside the view. Seen to have no actor."""
        question, user = uuid4(), User.objects.create_user("anna")

        def view(request: HttpRequest) -> HttpResponse:
            with correlated(question):
                request.user = user
                return answer(request)

        RequestContextMiddleware(view)(RequestFactory().get("/"))

        assert actors_under(question) == {f"user:{user.pk}"}

    @pytest.mark.parametrize("given", ["", "01a2", None], ids=repr)
    def test_refuses_what_is_no_uuid(self, given: Any):
        with (
            pytest.raises(TypeError, match=r"takes a UUID, not .*Convert a text"),
            correlated(given),
        ):
            pass


def asked_by(user: Any, correlation_id: UUID) -> str:
    """Have a user send a request under a correlation id; return the id of the answer."""

    def view(request: HttpRequest) -> HttpResponse:
        request.user = user or AnonymousUser()  # token authentication runs inside the view
        return answer(request)

    request = RequestFactory().get("/", headers={"X-Correlation-ID": str(correlation_id)})
    return str(RequestContextMiddleware(view)(request)["X-Correlation-ID"])


def actors_under(correlation_id: UUID) -> set[str]:
    return set(Event.objects.filter(correlation_id=correlation_id).values_list("actor", flat=True))


@pytest.mark.django_db
class TestACorrelationIdOfAnotherUser:
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

    def test_is_replaced_for_an_anonymous_user(self, anna: User):
        given = uuid4()
        asked_by(anna, given)

        assert asked_by(None, given) != str(given)
        assert actors_under(given) == {f"user:{anna.pk}"}

    def test_is_replaced_for_a_user_whose_model_has_no_permissions(self):
        """Failed: `emit()` raised, since only `PermissionsMixin` has `has_perm`."""
        given, customer = uuid4(), SimpleNamespace(pk=7, is_authenticated=True)
        asked_by(None, given)

        answered = asked_by(customer, given)

        assert answered != str(given)
        assert actors_under(UUID(answered)) == {"user:7"}

    def test_is_kept_if_it_is_from_an_earlier_request_of_the_user(self, anna: User):
        given = uuid4()

        assert [asked_by(anna, given), asked_by(anna, given)] == [str(given)] * 2
        assert Event.objects.filter(correlation_id=given).count() == 4

    def test_is_kept_for_a_user_with_the_permission_to_view_events(self, anna: User):
        given, root = uuid4(), User.objects.create_superuser("root")
        asked_by(anna, given)

        assert asked_by(root, given) == str(given)
        assert actors_under(given) == {f"user:{anna.pk}", f"user:{root.pk}"}

    def test_is_searched_once_and_only_if_the_header_is_set(
        self, anna: User, django_assert_num_queries: Any
    ):
        transaction_and_events = 4

        with django_assert_num_queries(transaction_and_events + 1):
            asked_by(anna, uuid4())
        with django_assert_num_queries(transaction_and_events):
            RequestContextMiddleware(answer)(RequestFactory().get("/"))


@pytest.mark.django_db
class TestTheCheckOfACorrelationId:
    @pytest.fixture
    def anna(self) -> User:
        return User.objects.create_user("anna")

    @pytest.fixture
    def ben(self) -> User:
        return User.objects.create_user("ben")

    def test_is_made_within_acting_as(self, anna: User, ben: User):
        """Seen to store the event in the timeline of the other user."""
        given = uuid4()
        asked_by(anna, given)

        def view(request: HttpRequest) -> HttpResponse:
            request.user = ben
            with acting_as("support:7"):
                return answer(request)

        request = RequestFactory().get("/", headers={"X-Correlation-ID": str(given)})
        answered = RequestContextMiddleware(view)(request)["X-Correlation-ID"]

        assert answered != str(given)
        assert actors_under(given) == {f"user:{anna.pk}"}
        assert actors_under(UUID(answered)) == {"support:7"}

    def test_is_repeated_after_a_failure(
        self, anna: User, ben: User, monkeypatch: pytest.MonkeyPatch
    ):
        """Seen to accept the id after the first try."""
        given, tries, first_actor = uuid4(), list[int](), emission._first_actor
        asked_by(anna, given)

        def lost_once(*arguments: Any, **options: Any) -> str | None:
            tries.append(1)
            if len(tries) == 1:
                raise OperationalError("the connection is lost")
            return first_actor(*arguments, **options)

        def view(request: HttpRequest) -> HttpResponse:
            request.user = ben
            with suppress(OperationalError):
                answer(request)
            return answer(request)

        monkeypatch.setattr(emission, "_first_actor", lost_once)
        request = RequestFactory().get("/", headers={"X-Correlation-ID": str(given)})
        RequestContextMiddleware(view)(request)

        assert actors_under(given) == {f"user:{anna.pk}"}

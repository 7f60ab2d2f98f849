"""Every error under /api/ is a problem of RFC 9457."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from rest_framework.test import APIClient
from rest_framework.throttling import AnonRateThrottle

from shop.problems import MEDIA_TYPE
from tests.inventory.factories import put_on_sale
from tests.orders.factories import a_key, customer, place, signed_in

pytestmark = pytest.mark.django_db


def is_a_problem(answer: Any, status: int, code: str) -> None:
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer["Content-Type"] == MEDIA_TYPE
    assert problem["code"] == code
    assert problem["type"] == f"/api/problems/{code}/"
    assert problem["title"]
    assert problem["detail"]
    assert answer["X-Correlation-ID"] == problem["correlation_id"]


class TestAProblem:
    def test_carries_the_correlation_id_of_the_request(self):
        name = "0b8c5f3e-6f0e-4b7e-9d2a-0a4f3f1f2f11"

        answer = APIClient().get("/api/orders/", headers={"X-Correlation-ID": name})

        assert answer.json()["correlation_id"] == name

    def test_has_a_url_that_explains_its_code(self):
        problem = APIClient().get("/api/orders/").json()

        shown = APIClient().get(problem["type"]).json()

        assert shown == {name: problem[name] for name in ("code", "status", "title")}

    def test_is_in_the_language_of_the_request(self):
        answer = APIClient().get("/api/orders/", headers={"Accept-Language": "ja"})

        assert answer.json()["detail"] != APIClient().get("/api/orders/").json()["detail"]


class TestARefusalOfAView:
    def test_of_a_visitor(self):
        is_a_problem(APIClient().get("/api/orders/"), 401, "not_authenticated")

    def test_of_a_method(self):
        answer = signed_in(customer()).put("/api/orders/")

        is_a_problem(answer, 405, "method_not_allowed")
        assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"

    def test_of_a_method_of_the_docs(self):
        is_a_problem(APIClient().options("/api/docs/"), 405, "method_not_allowed")

    def test_of_another_media_type(self):
        answer = signed_in(customer()).get("/api/orders/", headers={"Accept": "text/csv"})

        is_a_problem(answer, 406, "not_acceptable")

    def test_of_a_session_without_csrf_token(self):
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(customer())

        answer = browser.post("/api/orders/", {}, content_type="application/json", headers=a_key())

        is_a_problem(answer, 403, "csrf_failed")

    def test_of_too_many_requests(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(AnonRateThrottle, "rate", "2/min", raising=False)
        visitor = APIClient(REMOTE_ADDR="192.0.2.1")

        answers = [visitor.get("/api/products/") for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        is_a_problem(answers[-1], 429, "throttled")
        assert 0 < int(answers[-1]["Retry-After"]) <= 60

    def test_of_too_many_requests_with_forged_addresses(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(AnonRateThrottle, "rate", "1/min", raising=False)
        visitor = APIClient(REMOTE_ADDR="192.0.2.2")

        statuses = [
            visitor.get(
                "/api/products/", headers={"X-Forwarded-For": f"198.51.100.{n}"}
            ).status_code
            for n in range(2)
        ]

        assert statuses == [200, 429]


class TestABodyInChunks:
    """Django takes it for an empty one: the change was answered with 200, and not made."""

    @pytest.mark.parametrize("path", ["/api/orders/", "/api/webhooks/"])
    def test_is_refused(self, path: str):
        answer = signed_in(customer()).generic("PATCH", path, HTTP_TRANSFER_ENCODING="chunked")

        is_a_problem(answer, 411, "length_required")


class TestCaching:
    """An answer may be one customer's own, or have a secret that is shown once."""

    @pytest.mark.parametrize("path", ["/api/orders/", "/api/webhooks/", "/api/nothing/", "/"])
    def test_is_forbidden_by_default(self, path: str):
        answer = signed_in(customer()).get(path)

        assert answer["Cache-Control"] == "no-store"

    def test_of_an_answer_with_etag_requires_revalidation(self):
        put_on_sale()

        answer = signed_in(customer()).get(f"/api/orders/{place().id}/")

        assert answer["Cache-Control"] == "private, no-cache"


class TestAnErrorOfDjango:
    @pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
    def test_at_an_unknown_url(self, method: str):
        is_a_problem(getattr(APIClient(), method)("/api/nothing/"), 404, "not_found")

    def test_at_an_unknown_url_in_development(self, settings: Any):
        settings.DEBUG = True

        is_a_problem(APIClient().get("/api/nothing/"), 404, "not_found")

    def test_at_a_url_without_slash(self):
        answer = APIClient().post("/api/orders", {})

        is_a_problem(answer, 404, "not_found")
        assert "end with a slash" in answer.json()["detail"]

    def test_at_an_invalid_id(self):
        is_a_problem(signed_in(customer()).get("/api/orders/1/"), 404, "not_found")

    def test_of_an_unknown_host(self):
        answer = APIClient().get("/api/products/", headers={"Host": "evil.example.com"})

        is_a_problem(answer, 400, "bad_request")
        assert UUID(answer.json()["correlation_id"])

    def test_of_a_bug(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("inventory.queries.catalogue", None)
        visitor = APIClient(raise_request_exception=False)

        answer = visitor.get("/api/products/")

        is_a_problem(answer, 500, "internal_error")
        assert b"NoneType" not in answer.content

    def test_outside_of_the_api_is_html(self):
        answer = Client().get("/nothing/")

        assert answer.status_code == 404
        assert answer["Content-Type"].startswith("text/html")

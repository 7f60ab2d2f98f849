"""Every error under /api/ is a problem of RFC 9457, whoever refuses the request."""

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

    def test_has_an_address_that_explains_its_code(self):
        problem = APIClient().get("/api/orders/").json()

        told = APIClient().get(problem["type"]).json()

        assert told == {name: problem[name] for name in ("code", "status", "title")}

    def test_is_told_in_the_reader_s_language(self):
        answer = APIClient().get("/api/orders/", headers={"Accept-Language": "ja"})

        assert answer.json()["detail"] != APIClient().get("/api/orders/").json()["detail"]


class TestWhatAViewRefuses:
    def test_a_stranger(self):
        is_a_problem(APIClient().get("/api/orders/"), 401, "not_authenticated")

    def test_a_method(self):
        answer = signed_in(customer()).put("/api/orders/")

        is_a_problem(answer, 405, "method_not_allowed")
        assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"

    def test_a_method_of_the_page_of_the_docs(self):
        is_a_problem(APIClient().options("/api/docs/"), 405, "method_not_allowed")

    def test_a_wish_for_another_form(self):
        answer = signed_in(customer()).get("/api/orders/", headers={"Accept": "text/csv"})

        is_a_problem(answer, 406, "not_acceptable")

    def test_a_browser_without_its_csrf_token(self):
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(customer())

        answer = browser.post("/api/orders/", {}, content_type="application/json", headers=a_key())

        is_a_problem(answer, 403, "csrf_failed")

    def test_too_many_requests(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(AnonRateThrottle, "rate", "2/min", raising=False)
        visitor = APIClient(REMOTE_ADDR="192.0.2.1")

        answers = [visitor.get("/api/products/") for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        is_a_problem(answers[-1], 429, "throttled")
        assert 0 < int(answers[-1]["Retry-After"]) <= 60

    def test_too_many_requests_under_invented_addresses(self, monkeypatch: pytest.MonkeyPatch):
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


class TestNobodyElse:
    """An answer may be one customer's own, or have a secret that is shown once."""

    @pytest.mark.parametrize("path", ["/api/orders/", "/api/webhooks/", "/api/nothing/", "/"])
    def test_may_keep_what_is_not_said_to_be_kept(self, path: str):
        answer = signed_in(customer()).get(path)

        assert answer["Cache-Control"] == "no-store"

    def test_keeps_what_has_an_etag_without_asking(self):
        put_on_sale()

        answer = signed_in(customer()).get(f"/api/orders/{place().id}/")

        assert answer["Cache-Control"] == "private, no-cache"


class TestWhatDjangoRefuses:
    @pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
    def test_an_address_that_leads_nowhere(self, method: str):
        is_a_problem(getattr(APIClient(), method)("/api/nothing/"), 404, "not_found")

    def test_an_address_that_leads_nowhere_in_development_too(self, settings: Any):
        settings.DEBUG = True

        is_a_problem(APIClient().get("/api/nothing/"), 404, "not_found")

    def test_an_address_without_its_slash(self):
        answer = APIClient().post("/api/orders", {})

        is_a_problem(answer, 404, "not_found")
        assert "end with a slash" in answer.json()["detail"]

    def test_an_id_that_is_none(self):
        is_a_problem(signed_in(customer()).get("/api/orders/1/"), 404, "not_found")

    def test_a_host_that_is_not_ours(self):
        answer = APIClient().get("/api/products/", headers={"Host": "evil.example.com"})

        is_a_problem(answer, 400, "bad_request")
        assert UUID(answer.json()["correlation_id"])

    def test_a_bug(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("inventory.queries.catalogue", None)
        visitor = APIClient(raise_request_exception=False)

        answer = visitor.get("/api/products/")

        is_a_problem(answer, 500, "internal_error")
        assert b"NoneType" not in answer.content

    def test_elsewhere_as_ever(self):
        answer = Client().get("/nothing/")

        assert answer.status_code == 404
        assert answer["Content-Type"].startswith("text/html")

"""The schema over HTTP: caching, language, media type and throttling."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils.translation import trans_real
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient
from rest_framework.throttling import AnonRateThrottle, SimpleRateThrottle

from api import views
from tests.docs.pages import ROOT
from tests.orders.factories import customer, signed_in

pytestmark = pytest.mark.django_db

PATH = "/api/schema/"
YAML = "application/vnd.oai.openapi"
JSON = "application/vnd.oai.openapi+json"


@pytest.fixture(autouse=True)
def generated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return the list of the schemas that are generated; none is kept from another test."""
    views._rendered.cache_clear()
    made: list[Any] = []
    generate = SchemaGenerator.get_schema

    def counted(self: SchemaGenerator, **kwargs: Any) -> Any:
        made.append(generate(self, **kwargs))  # type: ignore[no-untyped-call]  # spectacular's
        return made[-1]

    monkeypatch.setattr(SchemaGenerator, "get_schema", counted)
    yield made
    views._rendered.cache_clear()


@pytest.fixture
def no_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda *_: True)


def schema(**kwargs: Any) -> Any:
    return APIClient().get(PATH, **kwargs)


def languages_of_gettext() -> set[str]:
    return set(trans_real._translations)  # type: ignore[attr-defined]  # private to Django


class TestTheSchema:
    def test_is_the_one_in_the_documentation(self):
        assert schema().content.decode() == (ROOT / "docs/reference/openapi.yaml").read_text()

    def test_is_generated_once_for_all_users(self, generated: list[Any], no_throttle: None):
        answers = [schema(), schema(), signed_in(customer()).get(PATH)]

        assert len({answer.content for answer in answers}) == 1
        assert len(generated) == 1

    def test_is_generated_once_for_concurrent_requests(self, generated: list[Any]):
        def render(_: int) -> bytes:
            return views._rendered_once(views.SchemaView.renderer_classes[0], "en")

        with ThreadPoolExecutor(8) as pool:
            contents = set(pool.map(render, range(16)))

        assert len(contents) == 1
        assert len(generated) == 1

    def test_is_generated_for_each_form_and_language(self, generated: list[Any], no_throttle: None):
        contents = {
            schema(data={"lang": language}, headers={"Accept": form}).content
            for language in ("en", "ja")
            for form in (YAML, JSON)
        }

        assert len(contents) == len(generated) == 4

    @pytest.mark.parametrize(
        "how", [{"data": {"lang": "ja"}}, {"headers": {"Accept-Language": "ja"}}]
    )
    def test_has_the_requested_language(self, how: dict[str, Any]):
        answer = schema(**how)

        assert answer["Content-Language"] == "ja"
        assert "Accept-Language" in answer["Vary"]

    def test_caches_no_unsupported_language(self, generated: list[Any]):
        schema()
        known = languages_of_gettext()

        answers = [schema(data={"lang": f"x{number}"}) for number in range(20)]

        assert {answer["Content-Language"] for answer in answers} == {"en"}
        assert languages_of_gettext() == known
        assert len(generated) == 1

    @pytest.mark.parametrize("version", ["\r\nX: 1", "2", '"', "\u2028"])
    def test_has_one_version(self, version: str):
        answer = schema(data={"version": version})

        assert answer.status_code == 200
        assert answer["Content-Disposition"] == 'inline; filename="schema.yaml"'
        assert answer.content == schema().content

    def test_is_not_sent_again_to_a_client_that_has_it(self):
        etag = schema()["ETag"]

        answer = schema(headers={"If-None-Match": etag})

        assert (answer.status_code, answer.content) == (304, b"")
        assert answer["Cache-Control"] == "public, no-cache"

    @pytest.mark.parametrize("path", [PATH, "/api/docs/", "/api/problems/invalid/"])
    def test_is_throttled_like_other_public_pages(self, path: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(AnonRateThrottle, "rate", "2/min", raising=False)
        visitor = APIClient(REMOTE_ADDR=f"198.51.100.{len(path)}")  # each is counted apart

        statuses = [visitor.get(path).status_code for _ in range(3)]

        assert statuses == [200, 200, 429]

"""Text that no database can store is refused before it is parsed."""

from __future__ import annotations

import pytest
from django.contrib.sessions.models import Session
from django.core.exceptions import BadRequest
from django.http import HttpResponse, UnreadablePostError
from django.test import Client, RequestFactory

from shop.middleware import StorableTextMiddleware
from tests.shop.test_problems import is_a_problem

pytestmark = pytest.mark.django_db

NUL = "%00"


def refused(answer, where: str) -> None:
    text = answer.content.decode()
    assert answer.status_code == 400
    assert f"&#x27;{where}&#x27; contains a NUL character or an unpaired surrogate" in text


class TestAQuery:
    @pytest.mark.parametrize("url", ["/", "/admin/login/", "/admin/outbox/event/"])
    def test_is_refused(self, client: Client, url: str):
        refused(client.get(f"{url}?name=a{NUL}b"), "name")

    def test_is_refused_for_the_name_of_a_parameter(self, client: Client):
        refused(client.get(f"/?a{NUL}=1"), "a\\x00")

    def test_is_refused_by_each_value(self, client: Client):
        refused(client.get(f"/?name={NUL}&name=b"), "name")

    def test_of_the_api_is_refused_with_a_problem(self, client: Client):
        answer = client.get(f"/api/products/?cursor={NUL}")

        is_a_problem(answer, 400, "bad_request")
        assert "'cursor' contains a NUL character" in answer.json()["detail"]

    @pytest.mark.parametrize("text", ["", "%F0%9F%98%80", "%ED%A0%80", "%FF", "%", "x" * 3000])
    def test_of_other_text_is_accepted(self, client: Client, text: str):
        assert client.get(f"/?name={text}").status_code == 200


class TestAPath:
    def test_is_refused(self, client: Client):
        refused(client.get(f"/admin/inventory/product/{NUL}/change/"), "path")


class TestACookie:
    """Python reads octal escapes in a quoted cookie, so a session key may have a NUL."""

    def test_is_refused(self, client: Client):
        answer = client.get("/admin/", headers={"Cookie": r'sessionid="\000aaaaaaaaaaaaaaaaaaaa"'})

        refused(answer, "sessionid")
        assert not Session.objects.exists()


class TestAHeader:
    @pytest.mark.parametrize("name", ["User-Agent", "Accept", "Referer"])
    def test_is_refused(self, client: Client, name: str):
        refused(client.get("/admin/login/", headers={name: "a\0b"}), name)


class TestAForm:
    def test_is_refused(self, client: Client):
        refused(client.post("/admin/login/", {"username": "a\0b", "password": "x"}), "username")

    def test_in_another_encoding_is_refused(self, client: Client):
        """Only by such a codec can half of a surrogate pair come in."""
        body = '--b\r\nContent-Disposition: form-data; name="username"\r\n\r\n\\ud800\r\n--b--\r\n'
        kind = "multipart/form-data; boundary=b; charset=unicode_escape"

        answer = client.generic("POST", "/admin/login/", body, content_type=kind)

        assert answer.status_code == 415

    def test_that_is_too_long_is_refused_for_its_length(self, client: Client):
        kind = "application/x-www-form-urlencoded"

        answer = client.generic("POST", "/basket/change/", "a=" + "x" * 300_000, content_type=kind)

        assert answer.status_code == 413

    def test_that_is_incomplete_is_refused(self):
        def broken(*_args: object) -> bytes:
            raise UnreadablePostError("the connection was reset")

        request = RequestFactory().post("/admin/login/", {"username": "x"})
        request._stream.read = broken  # type: ignore[method-assign]  # as when a client hangs up

        with pytest.raises(BadRequest, match="form in the request is incomplete"):
            StorableTextMiddleware(lambda _request: HttpResponse())(request)

"""No parameter of a request reaches a header of the answer or causes a server error."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils.http import urlencode
from rest_framework.throttling import SimpleRateThrottle

from tests.shop.addresses import addresses
from tests.shop.rows import a_row_of_each

pytestmark = pytest.mark.django_db

NAMES = ("lang", "version", "format", "next", "cursor", "q", "script", "redirect", "page", "order")
HOSTILE = {
    "a header": "\r\nX-Injected: 1",
    "a line feed": "1\nX-Injected: 1",
    "a quoted header": '1"\r\nX-Injected: 1',
    "a line separator": "1\u2028X-Injected: 1",
    "a NUL": "\0",
    "an escape sequence": "\x1b[2J",
    "a language that is a path": "../../../../etc",
    "a foreign address": "//evil.example.com\r\nX-Injected: 1",
}
#: PostgreSQL refuses a NUL in a text. Both databases store the other values.
VALUES = [
    pytest.param(value, id=name, marks=[] if name == "a NUL" else pytest.mark.once)
    for name, value in HOSTILE.items()
]


@pytest.fixture(autouse=True)
def no_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal for too many requests would hide what the address itself answers."""
    monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda *_: True)


def every_url() -> list[str]:
    rows = a_row_of_each()
    return sorted({one.url(rows) for one in addresses()})


def harmful(client: Client, url: str, value: str) -> list[str]:
    """Return what is wrong with the answers: once with each parameter, once with all of them."""
    queries = [{name: value} for name in NAMES] if url.startswith("/api/") else []
    found = []
    for query in [*queries, dict.fromkeys(NAMES, value)]:
        answer = client.get(f"{url}?{urlencode(query)}")
        injected = [text for text in answer.headers.values() if "X-Injected: 1" in text]
        if answer.status_code >= 500 or "X-Injected" in answer.headers or injected:
            found.append(f"{url}?{urlencode(query)}: {answer.status_code} {injected}")
    return found


@pytest.mark.parametrize("value", VALUES)
class TestAHostileParameter:
    def test_of_a_visitor_reaches_no_header_and_causes_no_server_error(
        self, client: Client, value: str
    ):
        client.raise_request_exception = False

        found = [fault for url in every_url() for fault in harmful(client, url, value)]

        assert found == []

    def test_of_staff_reaches_no_header_and_causes_no_server_error(
        self, admin_client: Client, value: str
    ):
        admin_client.raise_request_exception = False

        found = [fault for url in every_url() for fault in harmful(admin_client, url, value)]

        assert found == []

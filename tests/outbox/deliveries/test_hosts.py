"""The host in the reason of a breaker, from the exceptions of real clients."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from outbox import Breaker, subscribe
from outbox.deliveries.hosts import host_of, with_host
from outbox.models import Subscription
from tests.outbox.drive import emit_orders, run_messages, run_pass


class BankDown(Exception):
    """The shop's own exception, raised from the client's."""


def with_request(url: str) -> Exception:
    """An exception as httpx and requests raise it."""
    error = ConnectionError("timed out")
    error.request = SimpleNamespace(url=url)  # type: ignore[attr-defined]
    return error


class TestTheHost:
    def test_is_that_of_the_request_without_user_and_path(self):
        assert host_of(with_request("https://ann:secret@bank.example:8443/v1?key=1")) == (
            "bank.example:8443"
        )

    def test_is_that_of_a_cause(self):
        error = BankDown("no answer")
        error.__cause__ = with_request("https://bank.example/v1")

        assert host_of(error) == "bank.example"

    def test_is_that_of_a_pool(self):
        error = OSError("refused")
        error.pool = SimpleNamespace(host="bank.example", port=443)  # type: ignore[attr-defined]

        assert host_of(error) == "bank.example:443"

    @pytest.mark.parametrize("url", ["", "no url", "http://[", None, 7])
    def test_is_empty_if_there_is_none(self, url: object):
        assert host_of(with_request(url)) == ""  # type: ignore[arg-type]

    def test_is_empty_for_an_exception_of_the_network_alone(self):
        with pytest.raises(URLError) as caught:
            urlopen("http://127.0.0.1:1/")

        assert host_of(caught.value) == ""

    def test_is_not_added_to_a_text_that_names_it(self):
        error = with_request("https://bank.example/v1")

        assert with_host("timed out", error) == "bank.example: timed out"
        assert with_host("bank.example did not answer", error) == "bank.example did not answer"


@pytest.mark.usefixtures("own_registry")
class TestABreaker:
    def test_names_the_host_in_its_reason(self):
        @subscribe("shops.Ordered", breaker=Breaker(on=(ConnectionError,), failures=1))
        def call() -> None:
            raise with_request("https://bank.example/v1")

        emit_orders()
        run_messages(run_pass())

        reason = Subscription.objects.get().breaker_reason
        assert reason == "bank.example: ConnectionError: timed out"

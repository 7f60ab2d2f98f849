"""The checks of Amazon SQS as Celery's transport, and the doctor's findings about a queue."""

# No `from __future__ import annotations`: the checks see the local classes of tests.

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from django.core.checks import CheckMessage
from kombu import Connection

from outbox import BulkDelivery, subscribe
from outbox.checks import sqs
from outbox.checks.sqs import check_sqs
from outbox.doctor.findings import ERROR, WARNING
from outbox.doctor.sqs import examine_queues, of_queue
from tests.outbox.celery_settings import set_celery

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/"


@pytest.fixture(autouse=True)
def _sqs(own_registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One handler, on SQS with all packages and queues."""
    monkeypatch.setattr(sqs, "find_spec", lambda name: object())
    set_celery(monkeypatch, "broker_url", "sqs://")
    set_celery(monkeypatch, "broker_write_url", None)
    set_options(monkeypatch)

    @subscribe("parcels.ParcelSent", queue="parcels.post", batch=10, lease=60, name="parcels.weigh")
    def weigh(parcel_id: UUID) -> None: ...


def set_options(
    monkeypatch: pytest.MonkeyPatch,
    *,
    visibility: int = 601,
    queues: tuple[str, ...] = ("outbox", "parcels-post"),
    **options: Any,
) -> None:
    options["predefined_queues"] = {name: {"url": URL + name} for name in queues}
    options["visibility_timeout"] = visibility
    set_celery(monkeypatch, "broker_transport_options", options)


def the_message() -> CheckMessage:
    (message,) = check_sqs()
    return message


class TestTheChecksOfSqs:
    def test_find_nothing_in_safe_settings(self):
        assert check_sqs() == []

    def test_are_for_sqs_only(self, monkeypatch: pytest.MonkeyPatch):
        set_options(monkeypatch, visibility=1, queues=("other",))
        set_celery(monkeypatch, "broker_url", "redis://")

        assert check_sqs() == []

    def test_name_a_missing_package_and_the_extra(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(sqs, "find_spec", lambda name: None if name == "pycurl" else object())

        message = the_message()

        assert message.id == "outbox.E060"
        assert 'needs pycurl (extra "sqs")' in message.msg


class TestAQueueThatIsNotPredefined:
    def test_is_an_error_that_names_queue_and_handler(self, monkeypatch: pytest.MonkeyPatch):
        set_options(monkeypatch, queues=("outbox", "parcels"))

        message = the_message()

        assert message.id == "outbox.E061"
        assert message.msg.startswith("The queue parcels.post of parcels.weigh is not in")
        assert 'add "parcels-post"' in str(message.hint)

    def test_may_be_that_of_the_relay(self, monkeypatch: pytest.MonkeyPatch):
        set_options(monkeypatch, queues=("parcels-post",))

        assert the_message().msg.startswith("The queue outbox of the relay is not in")

    def test_is_looked_up_with_the_prefix(self, monkeypatch: pytest.MonkeyPatch):
        names = ("shop-outbox", "shop-parcels-post")
        set_options(monkeypatch, queues=names, queue_name_prefix="shop-")

        assert check_sqs() == []

    def test_is_created_by_celery_if_none_is_predefined(self, monkeypatch: pytest.MonkeyPatch):
        set_options(monkeypatch, queues=())

        assert check_sqs() == []


class TestAVisibilityTimeout:
    def test_must_be_longer_than_the_longest_message(self, monkeypatch: pytest.MonkeyPatch):
        """The lease of 60 s, and ten runs of 54 s."""
        set_options(monkeypatch, visibility=600)

        message = the_message()

        assert message.id == "outbox.E062"
        assert "queue parcels.post again after 600 s" in message.msg
        assert "parcels.weigh may take 600 s (lease 60 s + 10 x time limit 54 s)" in message.msg
        assert '"visibility_timeout"] and the VisibilityTimeout of the queue' in str(message.hint)

    def test_of_twelve_hours_is_the_longest_of_sqs(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("parcels.ParcelSent", queue="parcels.post", lease=3600, name="parcels.slow")
        def slow(parcel_id: UUID) -> None: ...

        set_options(monkeypatch, visibility=43199)
        assert "parcels.slow may take 651600 s" in the_message().msg
        set_options(monkeypatch, visibility=43200)
        assert check_sqs() == []

    def test_of_a_bulk_handler_covers_one_call(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("parcels.*", queue="sinks", bulk=True, batch=1000, lease=400, name="sinks.all")
        def publish(deliveries: Sequence[BulkDelivery]) -> None: ...

        queues = ("outbox", "parcels-post", "sinks")
        set_options(monkeypatch, visibility=760, queues=queues)
        assert "sinks.all may take 760 s (lease 400 s + 1 x time limit 360 s)" in the_message().msg
        set_options(monkeypatch, visibility=761, queues=queues)
        assert check_sqs() == []


class TestAFifoQueue:
    def test_is_reported(self, monkeypatch: pytest.MonkeyPatch):
        @subscribe("parcels.ParcelSent", queue="parcels.fifo", batch=1, name="parcels.order")
        def order(parcel_id: UUID) -> None: ...

        set_options(monkeypatch, queues=("outbox", "parcels-post", "parcels.fifo"))

        message = the_message()

        assert message.id == "outbox.W060"
        assert "The queue parcels.fifo of parcels.order is a FIFO queue." in message.msg


class TestTheDoctor:
    def test_names_each_queue_that_is_not_predefined(self):
        pytest.importorskip("boto3", reason="kombu's channel of SQS needs boto3.")
        options = {"predefined_queues": {"other": {"url": f"{URL}other"}}}

        with Connection("sqs://key:secret@", transport_options=options) as connection:
            found = list(examine_queues(connection.default_channel))

        assert {one.severity for one in found} == {ERROR}
        assert [one.text.partition(" is not in")[0] for one in found] == [
            "The queue outbox",
            "The queue parcels.post",
        ]

    def test_compares_the_queue_with_its_longest_message(self):
        (found,) = of_queue("parcels.post", {"VisibilityTimeout": "300"})

        assert found.severity == WARNING
        assert "has a visibility timeout of 300 s. A message of parcels.weigh may" in found.text
        assert not list(of_queue("parcels.post", {"VisibilityTimeout": "601"}))
        assert not list(of_queue("outbox", {"VisibilityTimeout": "30"}))

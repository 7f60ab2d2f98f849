"""The contract of sinks passes a correct sink, and notices each broken promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from outbox import PermanentFailure
from outbox.sinks.base import Sink, SinkMessage, SinkUnavailable
from outbox.testing import SinkContract, StoredMessage

pytestmark = pytest.mark.once

PASSWORD = "hunter2-hunter2"
TOPIC = "freight"


class Shelf:
    """The external system: lists of messages."""

    def __init__(self) -> None:
        self.stored: dict[str, list[StoredMessage]] = {TOPIC: []}
        self.is_down = False

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.is_down = True
        yield
        self.is_down = False


class ShelfSink(Sink):
    max_bytes = 1000

    def __init__(self, shelf: Shelf) -> None:
        super().__init__("shelf", {"password": PASSWORD, "servers": {"first": "127.0.0.1:4222"}})
        self.shelf = shelf

    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        if self.shelf.is_down:
            raise SinkUnavailable("The shelf is down.")
        return [self.publish_one(one) for one in messages]

    def publish_one(self, message: SinkMessage) -> Exception | None:
        assert self.max_bytes is not None
        if message.size > self.max_bytes:
            return PermanentFailure("The message is too large.")
        self.store(message)
        return None

    def store(self, message: SinkMessage) -> None:
        found = StoredMessage(message.key, message.headers, message.body, message.id)
        self.shelf.stored[message.topic].append(found)

    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        if self.shelf.is_down:
            return ["The shelf is down."]
        return [f"{topic} does not exist." for topic in topics if topic not in self.shelf.stored]


class TestACorrectSink(SinkContract):
    keeps_ids = True

    @pytest.fixture
    def shelf(self) -> Shelf:
        return Shelf()

    @pytest.fixture
    def sink(self, shelf: Shelf) -> Sink:
        return ShelfSink(shelf)

    @pytest.fixture
    def topic(self) -> str:
        return TOPIC

    @pytest.fixture
    def received(self, shelf: Shelf) -> Callable[[str], Sequence[StoredMessage]]:
        return lambda topic: shelf.stored[topic]

    @pytest.fixture
    def outage(self, shelf: Shelf) -> Callable[[], Any]:
        return shelf.outage


class AcknowledgesWithoutStoring(ShelfSink):
    def store(self, message: SinkMessage) -> None:
        pass


class ChangesHeaders(ShelfSink):
    def store(self, message: SinkMessage) -> None:
        headers = {name: ascii(value) for name, value in message.headers.items()}
        found = StoredMessage(message.key, headers, message.body, message.id)
        self.shelf.stored[message.topic].append(found)


class LosesKeys(ShelfSink):
    def store(self, message: SinkMessage) -> None:
        found = StoredMessage("", message.headers, message.body, message.id)
        self.shelf.stored[message.topic].append(found)


class StoresOnlyTenOfABatch(ShelfSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        return super().publish(messages[:10], timeout=timeout)


class RetriesWhatIsTooLarge(ShelfSink):
    def publish_one(self, message: SinkMessage) -> Exception | None:
        result = super().publish_one(message)
        return SinkUnavailable("No.") if result else None


class ReversesResults(ShelfSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        results = super().publish(messages, timeout=timeout)
        return [*results[1:], *results[:1]]


class AcknowledgesInAnOutage(ShelfSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        if self.shelf.is_down:
            return [None for _ in messages]
        return super().publish(messages, timeout=timeout)


class NeverRecovers(ShelfSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        if self.shelf.is_down:
            self.shelf = Shelf()
            self.shelf.is_down = True
        return super().publish(messages, timeout=timeout)


class QuotesThePassword(ShelfSink):
    def publish(
        self, messages: Sequence[SinkMessage], *, timeout: float
    ) -> Sequence[Exception | None]:
        try:
            return super().publish(messages, timeout=timeout)
        except SinkUnavailable as error:
            raise SinkUnavailable("The shelf is down.") from ValueError(PASSWORD + str(error))


class QuotesTheAddressInItsCheck(ShelfSink):
    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        return [f"{one} 127.0.0.1:4222" for one in super().check(topics, timeout=timeout)]


class RefusesRepeatedIds(ShelfSink):
    def publish_one(self, message: SinkMessage) -> Exception | None:
        if message.id in {one.id for one in self.shelf.stored[message.topic]}:
            return ValueError("It is a duplicate.")
        return super().publish_one(message)


class DiscardsReplays(ShelfSink):
    def store(self, message: SinkMessage) -> None:
        stored = self.shelf.stored[message.topic]
        if message.id.partition(".")[0] not in {one.id for one in stored}:
            super().store(message)


class FindsNothingMissing(ShelfSink):
    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        return []


class ComplainsAlways(ShelfSink):
    def check(self, topics: Sequence[str], *, timeout: float) -> Sequence[str]:
        return [f"{topic} does not exist." for topic in topics]


class ClosesOnce(ShelfSink):
    is_open = True

    def close(self) -> None:
        assert self.is_open, "closed twice"
        self.is_open = False


BROKEN = [
    (AcknowledgesWithoutStoring, "test_stores_each_message_as_it_was_given"),
    (ChangesHeaders, "test_stores_each_message_as_it_was_given"),
    (LosesKeys, "test_stores_each_message_as_it_was_given"),
    (AcknowledgesWithoutStoring, "test_acknowledges_each_message_of_a_full_batch"),
    (StoresOnlyTenOfABatch, "test_acknowledges_each_message_of_a_full_batch"),
    (RetriesWhatIsTooLarge, "test_refuses_a_message_that_is_too_large_for_good"),
    (RetriesWhatIsTooLarge, "test_reports_a_refused_message_by_itself"),
    (ReversesResults, "test_reports_a_refused_message_by_itself"),
    (AcknowledgesInAnOutage, "test_is_unavailable_during_an_outage_and_recovers"),
    (NeverRecovers, "test_is_unavailable_during_an_outage_and_recovers"),
    (QuotesThePassword, "test_is_unavailable_during_an_outage_and_recovers"),
    (RefusesRepeatedIds, "test_handles_a_repeated_id_as_documented"),
    (DiscardsReplays, "test_handles_a_repeated_id_as_documented"),
    (ComplainsAlways, "test_check_finds_nothing_for_an_existing_topic"),
    (FindsNothingMissing, "test_check_names_a_missing_topic"),
    (QuotesTheAddressInItsCheck, "test_check_names_a_missing_topic"),
    (FindsNothingMissing, "test_check_reports_an_outage"),
    (QuotesTheAddressInItsCheck, "test_check_reports_an_outage"),
    (ClosesOnce, "test_can_be_closed_twice"),
]


class TestABrokenSink:
    @pytest.mark.parametrize(
        ("kind", "test"), BROKEN, ids=[f"{kind.__name__}-{test}" for kind, test in BROKEN]
    )
    def test_fails(self, kind: type[ShelfSink], test: str) -> None:
        shelf = Shelf()
        given = {
            "sink": kind(shelf),
            "topic": TOPIC,
            "missing_topic": f"{TOPIC}-missing",
            "received": lambda topic: shelf.stored[topic],
            "outage": shelf.outage,
        }
        contract = SinkContract()
        method = getattr(contract, test)
        names = method.__code__.co_varnames[1 : method.__code__.co_argcount]

        with pytest.raises(AssertionError):
            method(**{name: given[name] for name in names})


def test_each_test_of_the_contract_has_a_broken_sink() -> None:
    tests = {name for name in vars(SinkContract) if name.startswith("test_")}

    assert tests == {test for _kind, test in BROKEN}

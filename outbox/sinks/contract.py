"""The tests that every sink passes. `outbox.testing` exports them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import pytest

from outbox.events import EventRecord
from outbox.ids import uuid7
from outbox.receipt import PermanentFailure

from .base import Sink, SinkMessage, SinkUnavailable

#: Shorter values ("all", "true") are ordinary words, which an error may contain.
_SHORTEST_SECRET = 6
#: Enough for several requests of any system.
_MOST_OF_A_BATCH = 100


class StoredMessage(NamedTuple):
    """One message as a consumer reads it.

    Attributes:
        key: partition key; "" if the system has none.
        headers: headers by name. The system may add its own.
        body: the body.
        id: deduplication id; "" if the system does not keep it.
    """

    key: str
    headers: Mapping[str, str]
    body: bytes
    id: str


class SinkContract:
    """Tests of a sink and a running system. Subclass it, and override the fixtures::

        class TestKafkaSink(SinkContract):
            @pytest.fixture
            def sink(self): ...

    `sink`, `topic`, `received` and `outage` are required. `missing_topic` has a default.

    Attributes:
        publish_timeout: seconds for a call while the system runs.
        outage_timeout: seconds for a call while the system is down.
        keeps_keys: whether a consumer can read the key.
        keeps_ids: whether a consumer can read the deduplication id.
        keeps_text: whether headers may contain any character. False: ASCII only.
        discards_known_ids: whether the system acknowledges an id that it has stored and discards
            the message. False: it stores the message twice.
        separates_failures: whether one refused message of a call leaves the others acknowledged.
        knows_topics: whether `check` can find a missing destination.
    """

    publish_timeout: ClassVar[float] = 30.0
    outage_timeout: ClassVar[float] = 3.0
    keeps_keys: ClassVar[bool] = True
    keeps_ids: ClassVar[bool] = False
    keeps_text: ClassVar[bool] = True
    discards_known_ids: ClassVar[bool] = False
    separates_failures: ClassVar[bool] = True
    knows_topics: ClassVar[bool] = True

    @pytest.fixture
    def sink(self) -> Sink:
        """The sink, connected to the running system. The test closes it."""
        raise NotImplementedError("Override the fixture `sink`.")

    @pytest.fixture
    def topic(self) -> str:
        """An existing destination without messages."""
        raise NotImplementedError("Override the fixture `topic`.")

    @pytest.fixture
    def missing_topic(self, topic: str) -> str:
        """A destination that does not exist."""
        return f"{topic}-missing"

    @pytest.fixture
    def received(self) -> Callable[[str], Sequence[StoredMessage]]:
        """A function that returns all messages that a destination has received so far."""
        raise NotImplementedError("Override the fixture `received`.")

    @pytest.fixture
    def outage(self) -> Callable[[], AbstractContextManager[object]]:
        """A function: in `with outage():` the system cannot be reached, and after it it can."""
        raise NotImplementedError("Override the fixture `outage`.")

    @pytest.fixture(autouse=True)
    def _closed(self, sink: Sink) -> Iterator[None]:
        yield
        sink.close()

    def message(self, sink: Sink, topic: str, *, number: int = 0, size: int = 0) -> SinkMessage:
        """Return a message of a new event, in CloudEvents' headers.

        Args:
            sink: the sink that will publish it.
            topic: its destination.
            number: a number for its body.
            size: smallest size of its body in bytes.
        """
        event = EventRecord(
            id=uuid7(),
            name="contract.ParcelSent",
            version=1,
            key=f"parcel-{uuid7()}",
            payload={"number": number, "place": "Zürich 東京 📦"},
            emitted_at=datetime.now(UTC),
            correlation_id=uuid7(),
        )
        payload = {**event.payload, "filler": "x" * size} if size else event.payload
        return SinkMessage(
            id=str(event.id),
            event=event,
            topic=topic,
            key=event.key,
            headers=self.headers(sink, event),
            body=json.dumps(payload, ensure_ascii=False).encode(),
        )

    def headers(self, sink: Sink, event: EventRecord) -> dict[str, str]:
        """Return the headers of a message. Override it if the system restricts them."""
        subject = "Zürich 東京 %41" if self.keeps_text else event.key
        return {
            f"{sink.header_prefix}id": str(event.id),
            f"{sink.header_prefix}type": event.name,
            f"{sink.header_prefix}subject": subject,
        }

    def test_stores_each_message_as_it_was_given(
        self,
        sink: Sink,
        topic: str,
        received: Callable[[str], Sequence[StoredMessage]],
    ) -> None:
        """Key, headers, body and id of each acknowledged message arrive unchanged, once."""
        messages = [self.message(sink, topic, number=number) for number in range(5)]

        results = self._publish(sink, messages)

        assert results == [None] * 5, f"Not all messages were acknowledged: {results}."
        found = {one.body: one for one in received(topic)}
        assert sorted(found) == sorted(one.body for one in messages), "Bodies differ."
        for message in messages:
            self._assert_same(found[message.body], message)

    def test_acknowledges_each_message_of_a_full_batch(
        self,
        sink: Sink,
        topic: str,
        received: Callable[[str], Sequence[StoredMessage]],
    ) -> None:
        """One result per message of the largest batch, and each acknowledged one is stored."""
        number = min(sink.max_batch, _MOST_OF_A_BATCH)
        messages = [self.message(sink, topic, number=one) for one in range(number)]

        results = self._publish(sink, messages)

        assert len(results) == number, f"{number} messages have {len(results)} results."
        assert results == [None] * number, f"Not all messages were acknowledged: {results}."
        assert sorted(one.body for one in received(topic)) == sorted(one.body for one in messages)

    def test_refuses_a_message_that_is_too_large_for_good(
        self,
        sink: Sink,
        topic: str,
        received: Callable[[str], Sequence[StoredMessage]],
    ) -> None:
        """It is a `PermanentFailure`, nothing is stored, and no option is quoted."""
        if sink.max_bytes is None:
            pytest.skip("The sink has no size limit of its own.")

        large = self.message(sink, topic, size=sink.max_bytes)
        (result,) = self._publish(sink, [large])

        assert isinstance(result, PermanentFailure), f"The result is {result!r}."
        self._assert_quotes_no_option(sink, topic, [result])
        assert list(received(topic)) == []

    def test_reports_a_refused_message_by_itself(
        self,
        sink: Sink,
        topic: str,
        received: Callable[[str], Sequence[StoredMessage]],
    ) -> None:
        """The others of its call are acknowledged and stored, and results keep the order."""
        if not self.separates_failures or sink.max_bytes is None:
            pytest.skip("The system refuses a whole call.")
        messages = [self.message(sink, topic, number=number) for number in range(3)]
        messages[1] = self.message(sink, topic, size=sink.max_bytes)

        first, second, third = self._publish(sink, messages)

        assert (first, third) == (None, None)
        assert isinstance(second, PermanentFailure), f"The result is {second!r}."
        stored = sorted(one.body for one in received(topic))
        assert stored == sorted([messages[0].body, messages[2].body])

    def test_is_unavailable_during_an_outage_and_recovers(
        self,
        sink: Sink,
        topic: str,
        received: Callable[[str], Sequence[StoredMessage]],
        outage: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Each message of the outage is `SinkUnavailable`; the first call after it succeeds."""
        before, during, after = (self.message(sink, topic, number=one) for one in range(3))
        assert self._publish(sink, [before]) == [None]

        with outage():
            results = self._publish(sink, [during], timeout=self.outage_timeout)
        assert [type(one) for one in results] == [SinkUnavailable], f"The results are {results}."
        self._assert_quotes_no_option(sink, topic, results)

        assert self._publish(sink, [after]) == [None]
        # The one of the outage may be stored: its result was unknown.
        assert after.body in {one.body for one in received(topic)}

    def test_handles_a_repeated_id_as_documented(
        self,
        sink: Sink,
        topic: str,
        received: Callable[[str], Sequence[StoredMessage]],
    ) -> None:
        """A repeated id is acknowledged. A requested replay, "<id>.1", is always stored."""
        message = self.message(sink, topic)
        replay = replace(message, id=f"{message.id}.1")

        results = [self._publish(sink, [one]) for one in (message, message, replay)]

        assert results == [[None], [None], [None]]
        expected = 2 if self.discards_known_ids else 3
        assert len(received(topic)) == expected

    def test_check_finds_nothing_for_an_existing_topic(self, sink: Sink, topic: str) -> None:
        """`check` returns no problem."""
        assert list(sink.check([topic], timeout=self.publish_timeout)) == []

    def test_check_names_a_missing_topic(self, sink: Sink, topic: str, missing_topic: str) -> None:
        """`check` returns a problem with the name of the destination, and quotes no option."""
        if not self.knows_topics:
            pytest.skip("The system does not know its destinations.")

        problems = list(sink.check([topic, missing_topic], timeout=self.publish_timeout))

        assert len(problems) == 1, f"The problems are {problems}."
        assert missing_topic in problems[0]
        self._assert_contains_no_option(sink, missing_topic, problems)

    def test_check_reports_an_outage(
        self, sink: Sink, topic: str, outage: Callable[[], AbstractContextManager[object]]
    ) -> None:
        """`check` returns a problem instead of raising, and quotes no option."""
        with outage():
            problems = list(sink.check([topic], timeout=self.outage_timeout))

        assert problems, "`check` found no problem while the system was down."
        self._assert_contains_no_option(sink, topic, problems)

    def test_can_be_closed_twice(self, sink: Sink, topic: str) -> None:
        """`close` is harmless after `close`, and without a connection."""
        sink.close()
        sink.close()

    def _publish(
        self, sink: Sink, messages: Sequence[SinkMessage], *, timeout: float | None = None
    ) -> list[Exception | None]:
        try:
            results = sink.publish(messages, timeout=timeout or self.publish_timeout)
        except Exception as error:  # means: none of them was acknowledged
            return [error for _ in messages]
        return list(results)

    def _assert_same(self, found: StoredMessage, sent: SinkMessage) -> None:
        if self.keeps_keys:
            assert found.key == sent.key
        if self.keeps_ids:
            assert found.id == sent.id
        kept = {name: value for name, value in found.headers.items() if name in sent.headers}
        assert kept == dict(sent.headers), "Headers differ."

    def _assert_quotes_no_option(
        self, sink: Sink, topic: str, errors: Iterable[Exception | None]
    ) -> None:
        texts = ["".join(traceback.format_exception(one)) for one in errors if one]
        self._assert_contains_no_option(sink, topic, texts)

    def _assert_contains_no_option(self, sink: Sink, topic: str, texts: Iterable[str]) -> None:
        secrets = {one for one in _texts_in(sink.options) if len(one) >= _SHORTEST_SECRET}
        for text in texts:
            quoted = [one for one in secrets if one not in topic and one in text]
            assert not quoted, f"An error quotes {len(quoted)} of OPTIONS' values."


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts_in(one)

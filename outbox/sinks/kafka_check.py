"""The check of a Kafka sink: brokers, topics, permissions and size limits."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from .kafka_client import in_words, most_specific, refused_options

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_LIMIT = "max.message.bytes"


def problems(
    owner: str,
    configuration: Mapping[str, Any],
    topics: Sequence[str],
    *,
    max_bytes: int,
    timeout: float,
) -> list[str]:
    """Return one sentence per problem. No topic is created.

    Args:
        owner: whose topics they are: 'sink "analytics"'.
        configuration: properties of librdkafka.
        topics: names; "*" stands for any characters.
        max_bytes: largest message that the sink sends.
        timeout: seconds.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    trouble: list[str] = []
    noted = {**configuration, "error_cb": lambda error: trouble.append(error.name())}
    try:
        admin = AdminClient(noted)
    except (KafkaException, TypeError, ValueError) as error:
        return [str(refused_options(owner, error))]
    try:
        # Metadata of all topics: a question about one topic would create it.
        known = admin.list_topics(timeout=timeout * 0.6).topics
    except KafkaException as error:
        admin.poll(0)  # calls error_cb
        return [_no_answer(owner, [*trouble, error.args[0].name()])]
    found = {topic: _matching(topic, known) for topic in topics}
    missing = [_is_missing(owner, topic) for topic, names in found.items() if not names]
    existing = sorted({name for names in found.values() for name in names})
    return [*missing, *_problems_of(owner, admin, existing, max_bytes, timeout * 0.3)]


def _no_answer(owner: str, names: Sequence[str]) -> str:
    return (
        f"Kafka does not answer {owner}: {in_words(most_specific(names))}. Start the brokers, or "
        "correct their addresses and the credentials in OPTIONS."
    )


def _matching(topic: str, known: Collection[str]) -> list[str]:
    # No name of a topic contains "*".
    pattern = re.compile(".*".join(re.escape(part) for part in topic.split("*")))
    return [name for name in known if pattern.fullmatch(name)]


def _is_missing(owner: str, topic: str) -> str:
    return (
        f"Topic {topic} of {owner} does not exist, or its credentials may not see it. "
        "Create it, or allow Describe and Write."
    )


def _problems_of(
    owner: str, admin: AdminClient, topics: Sequence[str], max_bytes: int, timeout: float
) -> Iterator[str]:
    if not topics:
        return
    operations = _operations(admin, topics, timeout)
    limits = _limits(admin, topics, timeout)
    for topic in topics:
        if not _may_write(operations[topic]):
            yield f"The credentials of {owner} may not write to topic {topic}. Allow Write."
        limit = _limit(limits[topic])
        if limit is not None and limit < max_bytes:
            yield (
                f"Topic {topic} accepts {limit} bytes, and {owner} sends messages of up to "
                f"{max_bytes}. Set message.max.bytes in OPTIONS to {limit}, or raise {_LIMIT}."
            )


def _operations(
    admin: AdminClient, topics: Sequence[str], timeout: float
) -> Mapping[str, Future[Any]]:
    from confluent_kafka import TopicCollection

    asked: Mapping[str, Future[Any]] = admin.describe_topics(
        TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=timeout
    )
    return asked


def _limits(admin: AdminClient, topics: Sequence[str], timeout: float) -> Mapping[str, Future[Any]]:
    from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]  # no __all__

    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    asked = admin.describe_configs(resources, request_timeout=timeout)
    return {resource.name: answer for resource, answer in asked.items()}


def _may_write(answer: Future[Any]) -> bool:
    """Return False if the broker lists operations without Write. Some list none."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]  # no __all__

    try:
        allowed = answer.result().authorized_operations
    except KafkaException as error:
        return bool(error.args[0].name() != "TOPIC_AUTHORIZATION_FAILED")
    return not allowed or AclOperation.WRITE in allowed or AclOperation.ALL in allowed


def _limit(answer: Future[Any]) -> int | None:
    """Return the topic's `max.message.bytes`. None: the credentials may not read it."""
    from confluent_kafka import KafkaException

    try:
        entry = answer.result().get(_LIMIT)
    except KafkaException:
        return None
    return int(entry.value) if entry and entry.value else None

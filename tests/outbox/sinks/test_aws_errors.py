"""Answers of AWS that moto does not give: throttling, refused credentials, partly failed batches.

A local HTTP endpoint answers as AWS does, see `aws_answers.py`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from outbox import PermanentFailure
from outbox.sinks.aws import SnsSink, SqsSink
from outbox.sinks.aws.errors import AwsRefusal
from outbox.sinks.base import Sink, SinkMessage, SinkUnavailable
from tests.outbox.sinks.aws_answers import (
    Answer,
    aws_endpoint,
    sns_batch,
    sns_error,
    sqs_batch,
    sqs_error,
)
from tests.outbox.sinks.sent import message

pytestmark = pytest.mark.once

TIMEOUT = 30.0
TOPICS = {
    SqsSink: "http://sqs.eu-central-1.amazonaws.com/123456789012/parcels",
    SnsSink: "arn:aws:sns:eu-central-1:123456789012:parcels",
}
ERRORS: dict[type[Sink], Callable[..., Answer]] = {SqsSink: sqs_error, SnsSink: sns_error}
BATCHES: dict[type[Sink], Any] = {SqsSink: sqs_batch, SnsSink: sns_batch}


@pytest.fixture(params=[SqsSink, SnsSink], ids=["SQS", "SNS"])
def backend(request: pytest.FixtureRequest) -> type[Sink]:
    found: type[Sink] = request.param
    return found


def published(
    backend: type[Sink], answer: Callable[[str], Answer], messages: Sequence[SinkMessage]
) -> tuple[Sequence[Exception | None], list[str]]:
    """Return the results of one call, and the requests that it sent."""
    with aws_endpoint(answer) as endpoint:
        sink = backend("audit", endpoint.options)
        results = sink.publish(messages, timeout=TIMEOUT)
        sink.close()
    for one in results:
        assert_quotes_no_credentials(one, endpoint.options)
    return results, endpoint.requests


def assert_quotes_no_credentials(error: Exception | None, options: dict[str, Any]) -> None:
    text = "".join(traceback.format_exception(error)) if error else ""
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "endpoint_url"):
        assert options[name] not in text


class TestARefusedRequest:
    @pytest.mark.parametrize(
        "code",
        [
            "ExpiredToken",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "IncompleteSignatureException",
            "MissingAuthenticationTokenException",
            "NotAuthorized",
            "UnknownException",
            "AccessDenied",
            "AccessDeniedException",
            "KmsAccessDenied",
        ],
    )
    def test_for_its_credentials_is_unavailable(self, backend, code):
        """The message of a real signature error quotes the session token."""
        topic = TOPICS[backend]
        quoting = "The Canonical String was x-amz-security-token:token-of-the-shop"
        answer = ERRORS[backend](code, status=403, message=quoting)

        results, requests = published(backend, lambda _: answer, [message(topic), message(topic)])

        assert [type(one) for one in results] == [SinkUnavailable] * 2
        assert f"refuses the credentials ({code})" in str(results[0])
        assert len(requests) == 1

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("RequestThrottled", 400),
            ("RequestThrottled", 403),
            ("Throttling", 400),
            ("ThrottlingException", 400),
            ("TooManyRequestsException", 429),
            ("KmsThrottled", 400),
            ("ServiceUnavailable", 503),
            ("InternalFailure", 500),
            ("InternalError", 500),
        ],
    )
    def test_for_the_services_state_is_unavailable_and_not_repeated(self, backend, code, status):
        answer = ERRORS[backend](code, status=status)

        results, requests = published(backend, lambda _: answer, [message(TOPICS[backend])])

        assert [type(one) for one in results] == [SinkUnavailable]
        assert len(requests) == 1

    def test_without_a_readable_answer_is_unavailable(self, backend):
        results, _ = published(
            backend, lambda _: Answer(502, "<html>Bad gateway"), [message(TOPICS[backend])]
        )

        assert [type(one) for one in results] == [SinkUnavailable]

    @pytest.mark.parametrize("code", ["KmsDisabled", "UnsupportedOperation", "Unheard.Of"])
    def test_for_an_unknown_or_other_reason_is_tried_again(self, backend, code):
        answer = ERRORS[backend](code, message="Change something.")

        results, _ = published(backend, lambda _: answer, [message(TOPICS[backend])])

        assert [type(one) for one in results] == [AwsRefusal]
        assert "Change something." in str(results[0])

    def test_for_a_foreign_topic_is_not_the_fault_of_a_message(self):
        """AWS answers so for an ARN of another region. The message has to stay owed."""
        answer = sns_error("InvalidParameter", message="Invalid parameter: TopicArn")
        topic = TOPICS[SnsSink]

        results, requests = published(SnsSink, lambda _: answer, [message(topic), message(topic)])

        assert [type(one) for one in results] == [AwsRefusal] * 2
        assert len(requests) == 1

    def test_for_one_of_its_messages_is_split(self, backend):
        """AWS refuses a whole request whose parts are too large together."""

        def answer(text: str) -> Answer:
            if "poison" in text:
                return ERRORS[backend]("BatchRequestTooLong")
            acknowledged: Answer = BATCHES[backend]({})(text)
            return acknowledged

        topic = TOPICS[backend]
        sent = [message(topic, body=body) for body in (b"first", b"poison", b"third")]

        results, requests = published(backend, answer, sent)

        assert [type(one) for one in results] == [type(None), PermanentFailure, type(None)]
        assert len(requests) == 4


class TestAPartlyFailedBatch:
    def test_settles_each_message_by_its_own_result(self, backend):
        topic = TOPICS[backend]
        failed = {
            "invalid": failure("InvalidMessageContents", fault=True),
            "parameter": failure("InvalidParameterValue", fault=True),
            "throttled": failure("RequestThrottled", fault=True),
            "internal": failure("InternalError", fault=False),
            "denied": failure("AccessDenied", fault=True),
            "other": failure("KmsDisabled", fault=True),
            "unknown": failure("Unheard.Of", fault=False),
        }
        bodies = ["stored", *failed, "also stored"]

        results, requests = published(
            backend, BATCHES[backend](failed), [message(topic, body=one.encode()) for one in bodies]
        )

        assert {body: type(one) for body, one in zip(bodies, results, strict=True)} == {
            "stored": type(None),
            "invalid": PermanentFailure,
            "parameter": PermanentFailure,
            "throttled": SinkUnavailable,
            "internal": SinkUnavailable,
            "denied": SinkUnavailable,
            "other": AwsRefusal,
            "unknown": SinkUnavailable,
            "also stored": type(None),
        }
        assert len(requests) == 1

    def test_leaves_a_message_owed_that_the_answer_does_not_name(self):
        topic = TOPICS[SqsSink]
        sent = [message(topic, body=body) for body in (b"stored", b"lost")]

        results, _ = published(SqsSink, sqs_batch({}, omitted="lost"), sent)

        assert results[0] is None
        assert isinstance(results[1], SinkUnavailable)

    def test_of_several_requests_fails_only_for_its_own_messages(self):
        """Of 25 messages in three requests, one request is throttled."""

        def answer(text: str) -> Answer:
            if "poison" in text:
                return sqs_error("RequestThrottled")
            acknowledged: Answer = sqs_batch({})(text)
            return acknowledged

        sent = [message(TOPICS[SqsSink]) for _ in range(25)]
        sent[12] = message(TOPICS[SqsSink], body=b"poison")

        results, requests = published(SqsSink, answer, sent)

        assert [one is None for one in results] == [True] * 10 + [False] * 10 + [True] * 5
        assert len(requests) == 3


class TestMissingConfiguration:
    @pytest.fixture(autouse=True)
    def _nothing_else(self, monkeypatch, tmp_path):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    def test_of_credentials_is_unavailable(self):
        sink = SqsSink("audit", {"region_name": "eu-central-1"})

        [result] = sink.publish([message("parcels")], timeout=TIMEOUT)

        assert isinstance(result, SinkUnavailable)
        assert "AWS credentials are missing, incomplete or expired" in str(result)

    def test_of_the_region_is_an_error_with_the_next_step(self):
        sink = SqsSink("audit", {})

        with pytest.raises(AwsRefusal, match='Set "region_name" in OPTIONS'):
            sink.publish([message("parcels")], timeout=TIMEOUT)
        [problem] = sink.check(["parcels"], timeout=TIMEOUT)

        assert 'Set "region_name" in OPTIONS' in problem

    def test_of_a_profile_is_unavailable(self):
        sink = SqsSink("audit", {"profile_name": "missing", "region_name": "eu-central-1"})

        with pytest.raises(SinkUnavailable, match="ProfileNotFound"):
            sink.publish([message("parcels")], timeout=TIMEOUT)


def failure(code: str, *, fault: bool) -> dict[str, Any]:
    return {"Code": code, "SenderFault": fault, "Message": "No."}

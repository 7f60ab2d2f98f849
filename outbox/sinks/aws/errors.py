"""Errors of SNS and SQS, by the code in their answer, as the errors of a sink.

No text quotes the message of a refused signature: it may contain the session token.
Source: "Common errors" and the errors of SendMessageBatch and PublishBatch in the API references.
"""

from __future__ import annotations

from outbox.receipt import PermanentFailure
from outbox.sinks.base import SinkUnavailable

#: The queue or topic does not exist, for these credentials in this region.
MISSING = frozenset(
    {
        "NonExistentQueue",
        "QueueDoesNotExist",
        "InvalidAddress",
        "NotFound",
        "NotFoundException",
        "ResourceNotFoundException",
    }
)

#: The same message would be refused again.
ABOUT_THE_MESSAGE = frozenset(
    {
        "BatchRequestTooLong",
        "BatchRequestTooLongException",
        "InvalidAttributeValue",
        "InvalidMessageContents",
        "InvalidParameter",
        "InvalidParameterException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MessageTooLong",
        "MissingParameter",
        "ParameterValueInvalid",
        "ValidationError",
        "ValidationException",
    }
)

#: The credentials are unknown, have expired or lack a permission.
CREDENTIALS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "AuthorizationError",
        "AuthorizationErrorException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSecurityException",
        "InvalidSignatureException",
        "InvalidToken",
        "KMSAccessDenied",
        "KMSAccessDeniedException",
        "KmsAccessDenied",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

#: Parts of the codes of a service that is throttled or down.
_UNAVAILABLE = ("Throttl", "TooManyRequests", "Unavailable", "Internal", "Timeout", "TimedOut")
#: Parts of the messages about a malformed or foreign ARN or URL.
_ABOUT_THE_DESTINATION = ("TopicArn", "QueueUrl", "queue url", "topic arn")


class AwsRefusal(Exception):
    """SNS or SQS refuses the request until a person changes something. The delivery is retried."""


def short(code: str) -> str:
    """Return a code without its namespace: "NonExistentQueue"."""
    return code.rpartition(".")[2].rpartition("#")[2]


def is_about_the_message(error: Exception) -> bool:
    """Return whether another message of the same call may be accepted."""
    return isinstance(error, PermanentFailure)


def sink_error(
    code: str, message: str, *, destination: str, sender_fault: bool, status: int = 200
) -> Exception:
    """Return the error of a sink for one that SNS or SQS answered.

    Args:
        code: its code.
        message: its text.
        destination: the queue or topic, for the text.
        sender_fault: whether the service attributes it to the caller.
        status: the HTTP status. 200 for an entry of a batch.
    """
    code = short(code)
    if status == 429 or status >= 500 or any(part in code for part in _UNAVAILABLE):
        return SinkUnavailable(f"{destination} accepts nothing at present ({code}).")
    # By the status too: the text of a refused signature quotes the request, whatever its code.
    if code in CREDENTIALS or status in (401, 403):
        return SinkUnavailable(
            f"{destination} refuses the credentials ({code}). Check their validity, the clock of "
            "this host, and the permission to publish."
        )
    about_the_destination = any(part in message for part in _ABOUT_THE_DESTINATION)
    if code in MISSING or (code in ABOUT_THE_MESSAGE and about_the_destination):
        return AwsRefusal(
            f"{destination} does not exist for these credentials in this region ({code}). "
            "Create it, or correct TOPIC or the region in OPTIONS."
        )
    if not sender_fault:
        return SinkUnavailable(f"{destination} accepts nothing at present ({code}).")
    if code in ABOUT_THE_MESSAGE:
        return PermanentFailure(f"{destination} refuses the message ({code}): {message}")
    return AwsRefusal(f"{destination} refuses the request ({code}): {message}")

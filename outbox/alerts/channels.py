"""Send a message to a channel: by e-mail, to a webhook, or to a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.utils.module_loading import import_string

from .configuration import CALL, EMAIL, WEBHOOK, ChannelConfig
from .exchange import ExchangeFailed, exchange
from .messages import AlertMessage

_JSON = "application/json; charset=utf-8"


class ChannelFailed(Exception):
    """The channel did not take the message; the text contains no secret."""


def send(channel: ChannelConfig, message: AlertMessage) -> None:
    """Send a message.

    Raises:
        ChannelFailed: it was not taken. It may be sent again.
    """
    _KINDS[channel.kind](channel, message)


def seconds_of_step(channel: ChannelConfig) -> float:
    """Return the longest time of one step of sending, in seconds, as far as it is limited."""
    if channel.kind != EMAIL:
        return channel.timeout
    return max(channel.timeout, getattr(settings, "EMAIL_TIMEOUT", None) or 0.0)


def slack_text(message: AlertMessage) -> str:
    """Return the text of a message for Slack and its relatives.

    A text of an exception cannot mention a channel or hide a link: "&", "<" and ">" are escaped.
    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    escaped = message.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "\n".join(filter(None, (escaped, message.url)))


def _send_email(channel: ChannelConfig, message: AlertMessage) -> None:
    try:
        _mail(channel, message)
    except Exception as error:  # backends of other packages raise errors of their own
        raise ChannelFailed(f"The mail server did not take it: {_reason(error)}") from error


def _mail(channel: ChannelConfig, message: AlertMessage) -> None:
    connection = get_connection()
    if getattr(connection, "timeout", 0.0) is None:  # of SMTP, without EMAIL_TIMEOUT
        vars(connection)["timeout"] = channel.timeout
    made = EmailMessage(
        subject=f"{settings.EMAIL_SUBJECT_PREFIX}{message.title}",
        body=message.body,
        from_email=channel.sender or None,
        to=list(channel.to),
        headers={"Auto-Submitted": "auto-generated"},
        connection=connection,
    )
    made.send()


def _post(channel: ChannelConfig, message: AlertMessage) -> None:
    body = json.dumps({"text": slack_text(message)}).encode()
    headers = {"Content-Type": _JSON}
    try:
        exchange("POST", channel.target, body=body, headers=headers, timeout=channel.timeout)
    except ExchangeFailed as error:
        raise ChannelFailed(f"The webhook did not take it: {error}") from error


def _call(channel: ChannelConfig, message: AlertMessage) -> None:
    function: Callable[[AlertMessage], object] = import_string(channel.target)
    try:
        function(message)
    except Exception as error:  # it is code of the project
        raise ChannelFailed(f"{channel.target} raised {type(error).__name__}.") from error


_KINDS: Mapping[str, Callable[[ChannelConfig, AlertMessage], None]] = {
    EMAIL: _send_email,
    WEBHOOK: _post,
    CALL: _call,
}


def _reason(error: Exception) -> str:
    """Return the kind of an error, and the operating system's text."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else ""
    code = getattr(error, "smtp_code", "")
    return f"{type(error).__name__} {code or text}".strip() + "."

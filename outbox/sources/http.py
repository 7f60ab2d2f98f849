"""HTTP source: another system sends signed `POST` requests, and a view stores them.

The signature is that of Standard Webhooks (https://www.standardwebhooks.com), and the body a
CloudEvent in JSON, in structured or binary mode. In your urls::

    path("events/<str:source>/", outbox.sources.http.receive)

With several databases, the argument `database` of the view names the one that stores the events.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from outbox import databases
from outbox.deliveries.transient_errors import DatabaseAccess, WaitGivenUp, is_transient
from outbox.settlements.recording import ReportsNotRecorded

from .backlog import Brake
from .base import BaseSource, ReceivedMessage
from .configuration import SourceConfig, configured
from .storing import store

logger = logging.getLogger("outbox.sources")

#: Seconds by which a request's time may differ from this host's, unless TOLERANCE sets others.
_TOLERANCE = 300
#: Seconds after which a sender may try again while the source is paused.
_RETRY_AFTER = 30
#: Digits of the largest number of seconds or bytes that a header may have.
_MOST_DIGITS = 18
_KEYS = ("SECRETS", "TOLERANCE", "DATABASES")


class HttpSource(BaseSource):
    """Checks signed requests.

    `OPTIONS`: `SECRETS` is a list of secrets as in Standard Webhooks, "whsec_<Base64>". Each of
    them is accepted, so that a secret can be replaced. `TOLERANCE` is in seconds (300).
    `DATABASES` lists the aliases that the address of a request may name (none). The signature does
    not cover the address.
    """

    percent_encoded: ClassVar[bool] = True
    headers_are_authentic: ClassVar[bool] = False
    needs_topics: ClassVar[bool] = False

    def __init__(
        self, name: str, *, topics: Sequence[str], group: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, topics=topics, group=group, options=options)
        self._keys = list(_keys(name, options))
        self._tolerance = _tolerance(name, options)
        #: Aliases that the address of a request may name.
        self.databases = _databases(name, options)

    @classmethod
    def validate_options(cls, name: str, options: Mapping[str, Any]) -> None:
        """Refuse secrets that are missing, malformed or too short, and other invalid options."""
        list(_keys(name, options))
        _tolerance(name, options)
        _databases(name, options)

    def check(self, *, timeout: float) -> Sequence[str]:
        """Return no problem: the other system opens the connection."""
        return []

    def refusal(self, *, id: str, timestamp: str, signature: str, body: bytes) -> str:
        """Return why a request is not authentic, or "" if it is."""
        if not id or not timestamp or not signature:
            return "It needs the headers webhook-id, webhook-timestamp and webhook-signature."
        if (seconds := _number(timestamp)) is None:
            return "webhook-timestamp is no number of seconds."
        if abs(time.time() - seconds) > self._tolerance:
            return "webhook-timestamp is too old, or in the future. Check the sender's clock."
        signed = f"{id}.{timestamp}.".encode() + body
        wanted = [hmac.digest(key, signed, hashlib.sha256) for key in self._keys]
        # Every pair is compared, so that the time says nothing about the keys.
        given = [_decoded(one) for one in signature.split()]
        matches = [hmac.compare_digest(one, other) for one in wanted for other in given]
        return "" if any(matches) else "webhook-signature does not match."


@csrf_exempt
@databases.outside_of_transactions
@require_POST
def receive(request: HttpRequest, source: str, database: str | None = None) -> HttpResponse:
    """Store a signed message. The answer is 204 only after the commit; a duplicate has it, too.

    Other answers: 400 for a message id that contradicts the signed one, 401 for a missing or wrong
    signature, 404 for an unknown source or a database that it may not name, 413 for a body above
    `MAX_BYTES`, 503 while the backlog is too large or a database fails.

    Args:
        request: the request.
        source: name of the source.
        database: alias that stores the event, one of the source's `DATABASES`. None: the first one
            of `OUTBOX["DATABASES"]`.
    """
    config = configured().get(source)
    if config is None or not _serves(config, database):
        return _answer(404, f"No source {source} receives requests at this address.")
    using = database or databases.alias()
    body = _body(request, config)
    if body is None:
        return _answer(413, f"The body is larger than {config.max_bytes:,} bytes.")
    message = _message(request, config, body)
    if refusal := _authenticity(config).refusal(
        id=message.position,
        timestamp=request.headers.get("webhook-timestamp", ""),
        signature=request.headers.get("webhook-signature", ""),
        body=body,
    ):
        return _answer(401, refusal)
    if not _is_signed_id(message):
        return _answer(400, "ce-id differs from webhook-id. The signature covers webhook-id only.")
    with databases.serving(using):
        return _stored(config, message, using=using)


def _serves(config: SourceConfig, database: str | None) -> bool:
    """Return whether a source receives requests, and may store them in this database."""
    if not issubclass(config.backend_class, HttpSource):
        return False
    return database is None or database in _authenticity(config).databases


def _stored(config: SourceConfig, message: ReceivedMessage, *, using: str) -> HttpResponse:
    try:
        if _brake(config, using).is_needed():
            return _try_later("The receiver's backlog is too large.")
        # The sender waits, so this does not wait for the end of an outage.
        access = DatabaseAccess(using, sleep=lambda _seconds: True)
        store(config, [message], retry=access.run, using=using)
    except Exception as error:
        is_outage = isinstance(error, WaitGivenUp | ReportsNotRecorded)
        if not is_outage and not is_transient(error, using=using):
            raise
        return _try_later("The receiver's database cannot store it now.")
    return HttpResponse(status=204)


def _message(request: HttpRequest, config: SourceConfig, body: bytes) -> ReceivedMessage:
    return ReceivedMessage(
        position=request.headers.get("webhook-id", ""),
        topic=request.path,
        headers={
            name.lower(): value
            for name, value in request.headers.items()
            if name.lower() == "content-type" or name.lower().startswith(("ce-", "webhook-id"))
        },
        body=body,
    )


def _is_signed_id(message: ReceivedMessage) -> bool:
    """Return whether the CloudEvent's id is covered by the signature.

    It is not in binary mode, where only `webhook-id` and the body are signed. So a request that was
    recorded could be sent again under another id. A replay may append its number to `webhook-id`.
    """
    given = message.headers.get("ce-id")
    if given is None:
        return True
    return re.fullmatch(rf"{re.escape(given)}(\.\d+)?", message.position) is not None


def _body(request: HttpRequest, config: SourceConfig) -> bytes | None:
    """Return the body, or None if it is too large, or has a length that is no number."""
    length = _number(request.headers.get("content-length") or "0")
    if length is None or length > config.max_bytes:
        return None
    try:
        body = request.body
    except RequestDataTooBig:  # DATA_UPLOAD_MAX_MEMORY_SIZE
        return None
    return body if len(body) <= config.max_bytes else None


def _answer(status: int, text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")


def _try_later(text: str) -> HttpResponse:
    response = _answer(503, f"{text} Send it again later.")
    response["Retry-After"] = str(_RETRY_AFTER)
    return response


def _authenticity(config: SourceConfig) -> HttpSource:
    known = _checkers.get(config.name)
    if known is None or known[0] is not config:
        checker = config.create()
        assert isinstance(checker, HttpSource)
        known = _checkers[config.name] = (config, checker)
    return known[1]


def _brake(config: SourceConfig, using: str) -> Brake:
    known = _brakes.get((config.name, using))
    if known is None or known[0] is not config:
        known = _brakes[config.name, using] = (config, Brake(config, using=using))
    return known[1]


_checkers: dict[str, tuple[SourceConfig, HttpSource]] = {}
_brakes: dict[tuple[str, str], tuple[SourceConfig, Brake]] = {}


def _keys(name: str, options: Mapping[str, Any]) -> Iterator[bytes]:
    place = f'OUTBOX["SOURCES"]["{name}"]["OPTIONS"]'
    for key in options:
        if key not in _KEYS:
            raise ImproperlyConfigured(
                f"{place} has no key {key!r}. The keys are {', '.join(_KEYS)}."
            )
    secrets = options.get("SECRETS")
    if not isinstance(secrets, list | tuple) or not secrets:
        raise ImproperlyConfigured(
            f'{place}["SECRETS"] must be a list with at least one secret, "whsec_<Base64>".'
        )
    for secret in secrets:
        yield _key(f'{place}["SECRETS"]', secret)


def _key(place: str, secret: object) -> bytes:
    try:
        key = base64.b64decode(str(secret).removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise ImproperlyConfigured(f'A secret in {place} is no Base64 after "whsec_".') from error
    if len(key) not in range(24, 65):  # the bytes that Standard Webhooks allows
        raise ImproperlyConfigured(f"A secret in {place} has {len(key)} bytes. Use 24 to 64.")
    return key


def _databases(name: str, options: Mapping[str, Any]) -> Sequence[str]:
    given = options.get("DATABASES", ())
    known = databases.listed()
    if not isinstance(given, list | tuple) or not set(given) <= set(known):
        raise ImproperlyConfigured(
            f'OUTBOX["SOURCES"]["{name}"]["OPTIONS"]["DATABASES"] must be a list of aliases of '
            f'OUTBOX["DATABASES"], which are: {", ".join(known) or "none"}.'
        )
    return given


def _tolerance(name: str, options: Mapping[str, Any]) -> float:
    given = options.get("TOLERANCE", _TOLERANCE)
    if not isinstance(given, int | float) or isinstance(given, bool) or given <= 0:
        raise ImproperlyConfigured(
            f'OUTBOX["SOURCES"]["{name}"]["OPTIONS"]["TOLERANCE"] must be a number of seconds '
            "above zero."
        )
    return float(given)


def _number(text: str) -> int | None:
    """Return a whole number; None: it is none, or has more digits than int() or float() allow."""
    plain = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if plain else None


def _decoded(signature: str) -> bytes:
    version, _, text = signature.partition(",")
    if version != "v1":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # also for characters that are not ASCII
        return b""

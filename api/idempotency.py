"""Idempotency-Key: a request that is sent twice is done once and answered twice.

It follows the IETF's draft "The Idempotency-Key HTTP Header Field", and Stripe's API where the
draft is silent. The key is stored as a hash, and the answer is encrypted with the key.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .encryption import decrypt, digest_of, encrypt
from .problems import Conflict

if TYPE_CHECKING:
    from .models import StoredAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"

#: Minimum time for which an answer is kept.
LIFE = timedelta(hours=24)
#: A database limits the parameters of one statement.
_PATHS_AT_A_TIME = 500

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")

#: The header, for `extend_schema(parameters=[...])`.
IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    {"type": "string", "pattern": f"^{_VISIBLE_ASCII.pattern}$"},
    OpenApiParameter.HEADER,
    required=True,
    description=(
        "A unique key of your choice for this request, such as a UUID. A repetition with the same "
        "key and body within 24 hours changes nothing and gets the same answer, "
        f"with `{REPLAYED}: true`."
    ),
)


class IdempotencyKeyMissing(APIException):
    """The header Idempotency-Key is missing. Add one with a new value, such as a UUID."""

    status_code = 400
    default_code = "idempotency_key_missing"
    default_detail = _(
        "The header Idempotency-Key is missing. Add one with a new value, such as a UUID."
    )


class IdempotencyKeyInvalid(APIException):
    """The key is not 1 to 255 visible ASCII characters."""

    status_code = 400
    default_code = "idempotency_key_invalid"
    default_detail = _("The Idempotency-Key must have 1 to 255 visible ASCII characters.")


class IdempotencyKeyReused(APIException):
    """The key was used before, with another body."""

    status_code = 422
    default_code = "idempotency_key_reused"
    default_detail = _(
        "This Idempotency-Key was used before with another body. Use a new key for a new request."
    )


class AnswerGone(Conflict):
    """The request was done before, but its answer was erased or cannot be decrypted."""

    default_code = "idempotency_answer_gone"
    default_detail = _(
        "A request with this Idempotency-Key was processed before, and its "
        "answer is no longer stored. Read the resource that it changed. Use a "
        "new key for a new request."
    )


def answer_once(request: Request, act: Callable[[], Response]) -> Response:
    """Return the answer of `act`, or the stored answer if the same request was done before.

    `act` runs in a transaction that also stores its answer. If it raises, nothing is stored, and
    the key can be used again. A concurrent duplicate waits for that transaction.

    Args:
        request: of a signed-in user; the key belongs to that user and to the request's path.
        act: does the work and returns its successful answer; refusals are exceptions.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid: the header is missing or malformed.
        IdempotencyKeyReused: the key was used before with another body.
        AnswerGone: the request was done before, and its answer was erased.
    """
    from .models import StoredAnswer  # models load after this module

    assert request.user.is_authenticated
    key, fingerprint = _key_of(request), _fingerprint(request)
    with transaction.atomic():
        mine = StoredAnswer.objects.filter(user=request.user, path=request.path)
        stored, is_new = mine.get_or_create(
            key=digest_of(key), defaults={"user": request.user, "path": request.path}
        )
        if not is_new:
            return _replay(stored, key, fingerprint)
        response = act()
        _store(response, stored, key, fingerprint)
    return response


def delete_old_answers() -> int:
    """Delete the answers that are older than `LIFE`, and return their number."""
    from .models import StoredAnswer  # models load after this module

    deleted, _kinds = StoredAnswer.objects.filter(stored_at__lt=timezone.now() - LIFE).delete()
    return deleted


def erase_answers_of(user_id: int) -> int:
    """Erase the stored answers of a user, and return their number.

    The keys stay known until they expire, so that no request is done a second time. A repetition
    raises `AnswerGone`.
    """
    from .models import StoredAnswer  # models load after this module

    kept = StoredAnswer.objects.filter(user_id=user_id).exclude(sealed="")
    return kept.update(sealed="")


def erase_answers_at(paths: Sequence[str]) -> int:
    """Erase the stored answers at these paths to any user, and return their number.

    For answers to staff about a customer. Otherwise as `erase_answers_of`.
    """
    from .models import StoredAnswer  # models load after this module

    erased = 0
    for start in range(0, len(paths), _PATHS_AT_A_TIME):
        some = paths[start : start + _PATHS_AT_A_TIME]
        erased += StoredAnswer.objects.filter(path__in=some).exclude(sealed="").update(sealed="")
    return erased


def digest_of_key(request: Request) -> str:
    """Return the SHA-256 of the request's key, by which a row may know it for good.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyInvalid: the header is missing or malformed.
    """
    return digest_of(_key_of(request))


def _key_of(request: Request) -> str:
    key = request.headers.get(HEADER)
    if key is None:
        raise IdempotencyKeyMissing
    if not _VISIBLE_ASCII.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key


def _fingerprint(request: Request) -> str:
    """Return a hash of the body that ignores spaces and the order of names."""
    text = json.dumps(request.data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _store(response: Response, stored: StoredAnswer, key: str, fingerprint: str) -> None:
    if not 200 <= response.status_code < 300:
        raise AssertionError(
            "Raise an error instead of returning it: a returned answer is stored for a day."
        )
    answer = {
        "fingerprint": fingerprint,
        "status": response.status_code,
        "body": JSONRenderer().render(response.data).decode(),
        "location": response.headers.get("Location", ""),
    }
    stored.sealed = encrypt(answer, key=key, purpose=stored.purpose)
    stored.save(update_fields=["sealed"])


def _replay(stored: StoredAnswer, key: str, fingerprint: str) -> Response:
    answer = decrypt(stored.sealed, key=key, purpose=stored.purpose)
    if answer is None:
        raise AnswerGone
    if answer["fingerprint"] != fingerprint:
        raise IdempotencyKeyReused
    response = Response(json.loads(answer["body"]), status=answer["status"])
    if answer["location"]:
        response["Location"] = answer["location"]
    response[REPLAYED] = "true"
    return response

"""Proof that the e-mail address of an account is its customer's: a link that is sent to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import User
from django.core import signing
from django.db.models import Exists, OuterRef
from django.utils import timezone

from storefront.models import VerificationRequest, VerifiedAddress

#: How long a link works. Who reads e-mails at weekends only has the time.
LINK_LASTS = timedelta(days=3)
_SALT = "storefront.verification"


def digest_of(user: User) -> str:
    """Return the digest of the account's address. It is no secret: the link is signed."""
    return hashlib.sha256(f"{user.pk} {user.email}".encode()).hexdigest()


def is_verified(user: User) -> bool:
    """Return whether the present address of the account is verified."""
    return user.pk in verified_among([user])


def verified_among(users: Iterable[User]) -> set[int]:
    """Return the ids of the accounts whose present address is verified."""
    digests = {user.pk: digest_of(user) for user in users if user.email}
    stored = VerifiedAddress.objects.filter(pk__in=digests).values_list("pk", "digest")
    return {pk for pk, digest in stored if digest == digests[pk]}


def record(user: User) -> None:
    """Record that the present address of the account is verified."""
    VerifiedAddress.objects.update_or_create(user=user, defaults={"digest": digest_of(user)})


def record_request(user: User, request_id: UUID) -> None:
    """Record the latest request of an account. It replaces those that are not answered yet."""
    values = {"request_id": request_id, "requested_at": timezone.now()}
    VerificationRequest.objects.update_or_create(user=user, defaults=values)


def user_of_request(user_id: int, *, request_id: UUID, requested_at: datetime) -> User | None:
    """Return the account of a request. None: it is not active, or has made another one since."""
    # One statement: a change of the address between two would be answered twice. By the time, since
    # a process of the earlier release records no request.
    others = VerificationRequest.objects.exclude(request_id=request_id)
    later = others.filter(pk=OuterRef("pk"), requested_at__gte=requested_at)
    return User.objects.filter(~Exists(later), pk=user_id, is_active=True).first()


def forget(user_id: int) -> None:
    """Delete the rows of an account. Its digest shows an address to those who guess it."""
    VerifiedAddress.objects.filter(pk=user_id).delete()
    VerificationRequest.objects.filter(pk=user_id).delete()


def token_of(user: User) -> str:
    """Return the secret part of a link to the present address of the account."""
    return signing.dumps([user.pk, digest_of(user)], salt=_SALT)


def user_of(token: str) -> User | None:
    """Return the account of a link. None: forged, too old, or sent to another address."""
    try:
        pk, digest = signing.loads(token, salt=_SALT, max_age=LINK_LASTS)
    except signing.BadSignature:
        return None
    user = User.objects.filter(pk=pk, is_active=True).first()
    return user if user and digest_of(user) == digest else None

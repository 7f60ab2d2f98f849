"""Set up, check and remove the second factor of one user.

A user has one authenticator (TOTP, RFC 6238) and ten recovery codes. Each wrong code doubles the
wait until the next one is checked. django-otp counts wrong codes in the database, for the
authenticator and for the recovery codes separately.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from dataclasses import dataclass

import django_otp
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

RECOVERY_CODES = 10

logger = logging.getLogger("shop.second_factor")


class AlreadyEnrolled(Exception):
    """The user has a second factor, and the session was not verified by it."""


class WrongCode(Exception):
    """The code is not the current one, was used before, or is no recovery code of this user."""


class TooManyWrongCodes(Exception):
    """No code is checked now.

    Attributes:
        seconds: how long to wait before the next code.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Wait {seconds} s.")
        self.seconds = seconds


@dataclass(frozen=True)
class Enrolment:
    """A new authenticator, and the recovery codes beside it."""

    device: Device
    codes: list[str]


def enrol(*, user: User, key: str, code: str, may_replace: bool) -> Enrolment:
    """Store a new authenticator and new recovery codes, in place of all that the user had.

    Args:
        key: the authenticator's secret, in hexadecimal digits.
        code: the authenticator's current code, which proves that it has the secret.
        may_replace: whether the session was verified by the second factor that is replaced.

    Raises:
        AlreadyEnrolled: there is a second factor, and `may_replace` is false.
        WrongCode: nothing is stored.
    """
    with transaction.atomic():
        # The lock makes two sessions of one user enrol in turn, so the later one finds the device.
        User.objects.select_for_update().get(pk=user.pk)
        if django_otp.user_has_device(user) and not may_replace:
            raise AlreadyEnrolled
        _delete_devices(user)
        device = TOTPDevice.objects.create(user_id=user.pk, name="authenticator", key=key)
        if not is_of_authenticator(code) or not device.verify_token(code):
            raise WrongCode
        codes = _replace_recovery_codes(user)
    _log(logging.INFO, user, "enrolled")
    return Enrolment(device, codes)


def verify(*, user: User, code: str) -> Device:
    """Return the device that accepts the code; a code is accepted once.

    Raises:
        TooManyWrongCodes: the code was not checked.
        WrongCode: the next code has to wait longer.
    """
    kind = TOTPDevice if is_of_authenticator(code) else StaticDevice
    for device in kind.objects.devices_for_user(user, confirmed=True):
        is_allowed, why_not = device.verify_is_allowed()
        if not is_allowed:
            wait = why_not["locked_until"] - timezone.now()
            raise TooManyWrongCodes(max(1, math.ceil(wait.total_seconds())))
        if django_otp.verify_token(user, device.persistent_id, code):
            if kind is StaticDevice:
                _log(logging.WARNING, user, "recovery code used")
            return device
    _log(logging.WARNING, user, "wrong code")
    raise WrongCode


def renew_recovery_codes(*, user: User) -> list[str]:
    """Return ten new recovery codes; the earlier ones become invalid."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        codes = _replace_recovery_codes(user)
    _log(logging.INFO, user, "recovery codes renewed")
    return codes


def remove(*, user: User, change: str) -> bool:
    """Delete all devices of the user, so that all their sessions are no longer verified.

    Args:
        change: the word in the log line: "removed" or "reset".

    Returns:
        Whether there was one.
    """
    with transaction.atomic():
        was_there = _delete_devices(user)
    if was_there:
        _log(logging.WARNING, user, change)
    return was_there


def is_verified(user: User | AnonymousUser) -> bool:
    """Return whether the session of this request's user was verified by a second factor."""
    # django-otp's middleware sets the attribute.
    return getattr(user, "otp_device", None) is not None


def recovery_codes_left(user: User) -> int:
    return len(StaticToken.objects.filter(device__user_id=user.pk))


def normalized(code: str) -> str:
    """Return a code in its stored form, from full-width digits, blanks and hyphens."""
    return re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", code)).lower()


def is_of_authenticator(code: str) -> bool:
    return re.fullmatch(r"[0-9]{6}", code) is not None


def _replace_recovery_codes(user: User) -> list[str]:
    # Keep the device: sessions that one of its codes has verified stay verified.
    device, _is_new = StaticDevice.objects.get_or_create(user_id=user.pk, name="recovery codes")
    device.token_set.all().delete()
    codes: set[str] = set()
    while len(codes) < RECOVERY_CODES:
        codes.add(StaticToken.random_token())
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return sorted(codes)


def _delete_devices(user: User) -> bool:
    devices = list(django_otp.devices_for_user(user, confirmed=None))
    for device in devices:
        device.delete()
    return bool(devices)


def _log(level: int, user: User, change: str) -> None:
    logger.log(
        level, "second factor of user:%s: %s", user.pk, change, extra={"user": f"user:{user.pk}"}
    )

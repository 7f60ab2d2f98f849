"""API tokens: shown once, stored as a hash.

A token has 160 random bits, so a plain SHA-256 is as safe as a slow hash: guessing is hopeless. A
look-up is one query by an index.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _
from rest_framework import authentication
from rest_framework.exceptions import APIException, AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from .throttling import WrongTokenThrottle

if TYPE_CHECKING:
    from .models import ApiToken

#: Keywords that may precede the token in `Authorization`; a 401 names the first one.
KINDS = ("Bearer", "Token")


class CsrfFailed(APIException):
    """A browser's session alone does not prove that its user intended this request."""

    status_code = 403
    default_code = "csrf_failed"
    default_detail = _("The CSRF token is missing or wrong.")


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <token>`, or `Token <token>`."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's user, or None without a token.

        Raise AuthenticationFailed for a wrong token, and Throttled after too many.
        """
        kind, _space, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() not in {known.lower() for known in KINDS}:
            return None
        known = find_token(token.strip())
        if known is None or not known.user.is_active:
            WrongTokenThrottle().count(request)
            raise AuthenticationFailed(_("The token is invalid or revoked."))
        return known.user, known

    def authenticate_header(self, request: Request) -> str:
        """Return the `WWW-Authenticate` header of a 401."""
        return f'{KINDS[0]} realm="api"'


class SessionAuthentication(authentication.SessionAuthentication):
    """A browser that is signed in to the admin; writing needs the CSRF token, too."""

    def enforce_csrf(self, request: Request) -> None:
        """Raise CsrfFailed, which has its own code."""
        try:
            super().enforce_csrf(request)
        except PermissionDenied as error:
            raise CsrfFailed from error


def new_token() -> str:
    """Return a fresh token, as long as Django REST framework's own."""
    return secrets.token_hex(20)


def add_token(*, user: User, label: str, token: str) -> ApiToken:
    """Store this token for this user. Adding it again changes nothing."""
    from .models import ApiToken  # models load after this module

    known, _is_new = ApiToken.objects.get_or_create(
        digest=_digest(token), defaults={"user": user, "label": label, "start": token[:4]}
    )
    return known


def find_token(token: str) -> ApiToken | None:
    """Return the row of this token, if there is one."""
    from .models import ApiToken  # models load after this module

    return ApiToken.objects.select_related("user").filter(digest=_digest(token)).first()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()

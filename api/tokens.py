"""API tokens: shown once, kept as a hash.

A token is 160 random bits, so a plain SHA-256 keeps it as safe as a slow hash would: there is
nothing to guess, and looking it up stays one query by an index.
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

from .guessing import WrongTokens

if TYPE_CHECKING:
    from .models import ApiToken

#: What may stand before the token in `Authorization`; the first is what we ask for.
KINDS = ("Bearer", "Token")


class CsrfFailed(APIException):
    """A browser's session alone does not prove that its user wanted this request."""

    status_code = 403
    default_code = "csrf_failed"
    default_detail = _("The CSRF token is missing or wrong.")


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <token>`, or `Token <token>`."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return the token's user, or None without a token.

        Raise AuthenticationFailed for a wrong one, and Throttled for one after too many.
        """
        kind, _space, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() not in {known.lower() for known in KINDS}:
            return None
        known = find_token(token.strip())
        if known is None or not known.user.is_active:
            WrongTokens().count(request)
            raise AuthenticationFailed(_("This token is not valid."))
        return known.user, known

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return f'{KINDS[0]} realm="api"'


class SessionAuthentication(authentication.SessionAuthentication):
    """A browser that is signed in to the admin; writing needs the CSRF token, too."""

    def enforce_csrf(self, request: Request) -> None:
        """Raise CsrfFailed, which has a code of its own."""
        try:
            super().enforce_csrf(request)
        except PermissionDenied as error:
            raise CsrfFailed from error


def new_token() -> str:
    """Return a fresh token, as long as Django REST framework's own."""
    return secrets.token_hex(20)


def add_token(*, user: User, label: str, token: str) -> ApiToken:
    """Let this token speak for this user. Adding it again changes nothing."""
    from .models import ApiToken  # models load after this module

    known, _is_new = ApiToken.objects.get_or_create(
        digest=_digest(token), defaults={"user": user, "label": label, "start": token[:4]}
    )
    return known


def find_token(token: str) -> ApiToken | None:
    """Return what is kept of this token, if it is one."""
    from .models import ApiToken  # models load after this module

    return ApiToken.objects.select_related("user").filter(digest=_digest(token)).first()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()

"""Pages on which staff set up, use and manage their second factor."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, cast

import django_otp
import segno
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_POST, require_safe
from django_otp.models import Device
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp.util import random_hex

from . import services
from .forms import CodeForm

#: Session key of the secret that is being set up. It belongs to this session alone, so somebody
#: who opened the page earlier does not know the secret that is stored later.
PENDING_KEY = "second_factor_key"

View = Callable[[HttpRequest], HttpResponse]
Result = TypeVar("Result")


def verified(view: View) -> View:
    """Require the second factor first."""

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        if not is_verified(request):
            return redirect("second_factor:account")
        return view(request)

    return cast(View, staff_member_required(checked))


def is_verified(request: HttpRequest) -> bool:
    return services.is_verified(request.user)


@require_safe
@staff_member_required
def account(request: HttpRequest) -> HttpResponse:
    """Show whether there is a second factor, and the actions on it."""
    user = _user(request)
    if not is_verified(request):
        if django_otp.user_has_device(user):
            return redirect("second_factor:verify")
        if _is_required():
            return redirect("second_factor:enrol")
    left = services.recovery_codes_left(user)
    return _page(request, "account", _("Second factor"), is_set_up=is_verified(request), left=left)


@sensitive_post_parameters("code")
@sensitive_variables("form")
@staff_member_required
def verify(request: HttpRequest) -> HttpResponse:
    """Ask for a code, and let the session into the admin."""
    user = _user(request)
    if is_verified(request):
        return HttpResponseRedirect(_next(request))
    if not django_otp.user_has_device(user):
        return redirect("second_factor:enrol")
    form = CodeForm(request.POST or None)
    if device := _result(form, partial(services.verify, user=user)):
        _let_in(request, device)
        # redirect() would take "docs" for the name of a page.
        return HttpResponseRedirect(_next(request))
    return _page(request, "verify", _("Enter your code"), form=form)


@sensitive_post_parameters("code")
@sensitive_variables("form", "key", "done")
@staff_member_required
def enrol(request: HttpRequest) -> HttpResponse:
    """Set up an authenticator: show its secret, ask for its first code, show recovery codes."""
    user, may_replace = _user(request), is_verified(request)
    if django_otp.user_has_device(user) and not may_replace:
        return redirect("second_factor:verify")
    key = request.session.setdefault(PENDING_KEY, random_hex(20))
    form = CodeForm(request.POST or None)
    try:
        done = _result(form, partial(services.enrol, user=user, key=key, may_replace=may_replace))
    except services.AlreadyEnrolled:
        return redirect("second_factor:verify")
    if done:
        del request.session[PENDING_KEY]
        _let_in(request, done.device)
        return _recovery_codes(request, done.codes)
    shown = {"secret": _in_groups(key), "qr_code": _qr_code(user, key), "replaces": may_replace}
    return _page(request, "enrol", _("Set up a second factor"), form=form, **shown)


@require_POST
@verified
def renew_recovery_codes(request: HttpRequest) -> HttpResponse:
    """Show ten new recovery codes; the earlier ones become invalid."""
    return _recovery_codes(request, services.renew_recovery_codes(user=_user(request)))


@require_POST
@verified
def remove(request: HttpRequest) -> HttpResponse:
    """Remove the second factor, where it is not required."""
    if _is_required():
        messages.error(request, _("A second factor is required here, so it cannot be removed."))
    else:
        services.remove(user=_user(request), change="removed")
        messages.success(request, _("Your second factor was removed."))
    return redirect("second_factor:account")


def _result(form: CodeForm, attempt: Callable[..., Result]) -> Result | None:
    """Return the result of `attempt` with the entered code; None if the form has an error."""
    if not form.is_valid():
        return None
    try:
        return attempt(code=form.cleaned_data["code"])
    except services.WrongCode:
        form.add_error("code", _("This code is wrong, or was used before. Enter the next one."))
    except services.TooManyWrongCodes as error:
        form.wait = error.seconds
        text = _("Too many wrong codes. Wait %(seconds)d seconds, then enter a new one.")
        form.add_error("code", text % {"seconds": error.seconds})
    return None


def _recovery_codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    title = _("Your recovery codes")
    return _page(request, "recovery_codes", title, codes=codes, next=_next(request))


def _let_in(request: HttpRequest, device: Device) -> None:
    """Record in the session that it was verified, and change the session's key."""
    django_otp.login(request, device)
    request.session.cycle_key()


def _in_groups(key: str) -> str:
    """Return the secret in groups of letters, for typing it into an authenticator app."""
    secret = b32encode(bytes.fromhex(key)).decode()
    return " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))


def _qr_code(user: User, key: str) -> SafeString:
    """Return the address of the authenticator's account as an SVG, without inline styles."""
    address = TOTPDevice(user=user, key=key).config_url
    drawn = segno.make(address, error="m", micro=False).svg_inline(
        scale=4, border=4, light="#fff", title=_("QR code of the secret")
    )
    return mark_safe(drawn)  # noqa: S308  segno wrote it, and escapes the title


def _page(
    request: HttpRequest, name: str, title: str, *, form: CodeForm | None = None, **context: Any
) -> HttpResponse:
    shown = {
        "title": title,
        "site_header": admin.site.site_header,
        "site_title": admin.site.site_title,
        "is_required": _is_required(),
        "is_verified": is_verified(request),
        "form": form,
        **context,
    }
    response = render(request, f"second_factor/{name}.html", shown)
    if form and form.wait:
        response.status_code = 429
        response["Retry-After"] = str(form.wait)
    return response


def _next(request: HttpRequest) -> str:
    """Return our address that the session requested first, else the admin's start page."""
    wanted = request.GET.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if ours else reverse("admin:index")


def _is_required() -> bool:
    return bool(settings.SECOND_FACTOR == "required")


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)

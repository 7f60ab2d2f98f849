"""Sign up, sign in and sign out of customers."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from storefront import services
from storefront.account_email import site_origin
from storefront.error_pages import error_page, post_only
from storefront.forms import SignInForm, SignUpForm
from storefront.throttles import SignUpThrottle, wait_of

HOME = "storefront:catalogue"


class SignIn(LoginView):
    """Sign in. Wrong passwords are counted as in the admin."""

    authentication_form = SignInForm
    template_name = "storefront/sign_in.html"
    next_page = HOME


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Create an account and sign in. The basket is kept."""
    if request.method == "POST" and (wait := wait_of(SignUpThrottle, request)):
        why = _("Too many accounts were created from your address. Nothing was changed.")
        return error_page(429, request=request, why=why, wait=wait)
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and (user := _created(form, request)):
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        # redirect() would take "docs" for the name of a page.
        return HttpResponseRedirect(_next(request))
    context = {"form": form, "next": _next(request)}
    return render(request, "storefront/sign_up.html", context)


def _created(form: SignUpForm, request: HttpRequest) -> User | None:
    """Return the new account. None: another request, such as a second click, has just created it.

    The form checks the name, and then hashes the password, which takes long.
    """
    try:
        with transaction.atomic():
            user: User = form.save()
            services.request_verification(user=user, origin=site_origin(request))
    except IntegrityError:
        form.add_error("username", form.instance.unique_error_message(User, ["username"]))
        return None
    return user


@post_only
def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign out, which empties the basket."""
    logout(request)
    messages.info(request, _("You are signed out."))
    return redirect(HOME)


def _next(request: HttpRequest) -> str:
    """Return the address of the parameter `next`, if it is on this site, or the catalogue's."""
    url = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return url if is_ours else resolve_url(HOME)

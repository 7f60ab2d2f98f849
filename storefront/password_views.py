"""The change of a customer's password, and a new password by e-mail."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.contrib.auth.views import (
    PasswordChangeView,
    PasswordResetConfirmView,
    PasswordResetDoneView,
    PasswordResetView,
)
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from storefront import services
from storefront.error_pages import error_page
from storefront.forms import ForgottenPasswordForm
from storefront.throttles import PasswordChangeThrottle, PasswordResetThrottle, wait_of

SIGN_IN = "storefront:sign_in"
FORM = "storefront/account_form.html"


class ChangePassword(LoginRequiredMixin, PasswordChangeView):
    """Change the password. Other sessions of the customer end."""

    login_url = reverse_lazy(SIGN_IN)
    template_name = FORM
    title = gettext_lazy("Change your password")
    extra_context = {"button": gettext_lazy("Change the password")}
    success_url = reverse_lazy("storefront:account")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse guesses of the present password."""
        if wait := wait_of(PasswordChangeThrottle, request):
            return error_page(429, request=request, wait=wait)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        """Say that the password is changed."""
        messages.success(self.request, _("Your password is changed."))
        return super().form_valid(form)


class ForgottenPassword(PasswordResetView):
    """Ask for an e-mail address. The answer does not say whether an account has it."""

    form_class = ForgottenPasswordForm
    template_name = FORM
    title = gettext_lazy("Forgotten password")
    extra_context = {
        "intro": gettext_lazy("We send you a link with which you choose a new password."),
        "button": gettext_lazy("Send the link"),
    }
    success_url = reverse_lazy("storefront:password_link_sent")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse too many requests from one address, with a known e-mail address or not."""
        if wait := wait_of(PasswordResetThrottle, request):
            return error_page(429, request=request, wait=wait)
        return super().post(request, *args, **kwargs)


class PasswordLinkSent(PasswordResetDoneView):
    """Say what to expect, whether an account has the address or not."""

    template_name = "storefront/password_link_sent.html"
    title = gettext_lazy("Look into your mailbox")


class NewPassword(PasswordResetConfirmView):
    """Choose a new password by the link of an e-mail."""

    template_name = FORM
    title = gettext_lazy("Choose a new password")
    extra_context = {"button": gettext_lazy("Change the password")}
    success_url = reverse_lazy(SIGN_IN)

    def get_user(self, uidb64: str) -> User | None:
        """Return the customer of the link. The link of a user who has become staff is not valid."""
        user = super().get_user(uidb64)
        if not isinstance(user, User) or user.is_staff or user.is_superuser:
            return None
        return user

    def form_valid(self, form: SetPasswordForm[User]) -> HttpResponse:
        """Say that the password is changed. The link has verified the address, too."""
        services.verify_address(user=form.user)
        messages.success(self.request, _("Your password is changed. Sign in with it."))
        return super().form_valid(form)

"""The e-mail address of a customer's account: its verification and its change."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe
from django.views.generic import FormView

from storefront import services, verification
from storefront.account_email import site_origin
from storefront.error_pages import error_page, post_only
from storefront.forms import ChangeAddressForm
from storefront.throttles import PasswordChangeThrottle, VerificationThrottle, wait_of

SIGN_IN = "storefront:sign_in"
ACCOUNT = "storefront:account"


@require_safe
@login_required(login_url=SIGN_IN)
def account(request: HttpRequest) -> HttpResponse:
    """Show the name and the e-mail address of the customer, and whether it is verified."""
    is_verified = verification.is_verified(cast(User, request.user))
    return render(request, "storefront/account.html", {"is_verified": is_verified})


@post_only
def send_verification(request: HttpRequest) -> HttpResponse:
    """Send the link again."""
    if not request.user.is_authenticated:
        return redirect_to_login(reverse(ACCOUNT), reverse(SIGN_IN))
    if wait := wait_of(VerificationThrottle, request):
        return error_page(429, request=request, wait=wait)
    user = request.user
    if not user.email or verification.is_verified(user):
        return redirect(ACCOUNT)
    services.request_verification(user=user, origin=site_origin(request))
    messages.info(
        request,
        _(
            "We send the link by e-mail. One address gets at most one e-mail in five minutes. If "
            "no new e-mail arrives, look for an earlier one."
        ),
    )
    return redirect(ACCOUNT)


@require_http_methods(["GET", "HEAD", "POST"])
def verify_address(request: HttpRequest, token: str) -> HttpResponse:
    """Verify the address by a button. Programs that check the links of e-mails only open them."""
    user = verification.user_of(token)
    if user is None or request.method != "POST":
        return render(request, "storefront/verify_address.html", {"owner": user})
    services.verify_address(user=user)
    messages.success(request, _("Your e-mail address is verified."))
    return redirect(ACCOUNT if request.user == user else "storefront:catalogue")


class ChangeAddress(LoginRequiredMixin, FormView):  # type: ignore[type-arg]  # generic in stubs only
    """Change the e-mail address, with the present password. It is not verified then."""

    login_url = reverse_lazy(SIGN_IN)
    template_name = "storefront/account_form.html"
    form_class = ChangeAddressForm
    extra_context = {
        "title": gettext_lazy("Change your e-mail address"),
        "button": gettext_lazy("Change the e-mail address"),
    }
    success_url = reverse_lazy(ACCOUNT)

    def get_form_kwargs(self) -> dict[str, Any]:
        """Give the form the user, whose password it checks."""
        return {**super().get_form_kwargs(), "user": self.request.user}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse guesses of the present password, and many e-mails to strangers."""
        if wait := wait_of(PasswordChangeThrottle, request):
            return error_page(429, request=request, wait=wait)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: ChangeAddressForm) -> HttpResponse:
        """Change it, and say what to do next."""
        is_requested = services.change_address(
            user=cast(User, self.request.user),
            address=form.cleaned_data["email"],
            origin=site_origin(self.request),
        )
        text = (
            _("Your e-mail address is changed. Open the link in our e-mail.")
            if is_requested
            else _("This e-mail address is verified already.")
        )
        messages.success(self.request, text)
        return super().form_valid(form)

"""The forms of the storefront."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib.auth.forms import (
    AuthenticationForm,
    PasswordResetForm,
    UserCreationForm,
)
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from shared.mail import LONGEST_ADDRESS, MailboxValidator
from shared.money import Money
from shared.sign_in import ShortNameMixin
from storefront import services, verification
from storefront.account_email import site_origin
from storefront.baskets import LONGEST_SKU, MOST_PRODUCTS, MOST_UNITS
from storefront.cards import cards_in_use

PRICE_CHANGED = _("A price has changed. Check the new total, then place the order again.")


def _address_field(**options: Any) -> forms.EmailField:
    return forms.EmailField(
        label=_("E-mail address"),
        max_length=LONGEST_ADDRESS,
        validators=[MailboxValidator()],
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        **options,
    )


class BasketForm(forms.Form):
    """A change of the basket: units of one product, added or set."""

    sku = forms.CharField(max_length=LONGEST_SKU)
    quantity = forms.IntegerField(min_value=0, max_value=MOST_UNITS)
    adds = forms.BooleanField(required=False)


class CheckoutForm(forms.Form):
    """The card and the address of an order, with its idempotency key and the total shown."""

    key = forms.UUIDField(widget=forms.HiddenInput)
    # Not required: the page of an earlier release, which may be open during a deploy, has none.
    expected_total = forms.RegexField(
        r"\A[0-9]{1,30} [A-Z]{3}\Z",
        required=False,
        error_messages={"invalid": PRICE_CHANGED},
        widget=forms.HiddenInput,
    )
    email = _address_field(help_text=_("For messages about this order."))
    card = forms.ChoiceField(label=_("Card"), widget=forms.RadioSelect)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cards = cards_in_use()
        self.fields["card"].choices = [(card.token, card.name) for card in cards]  # type: ignore[attr-defined]  # a ChoiceField
        self.fields["card"].initial = cards[0].token if cards else None
        self.cards = cards


def total_of(text: str) -> Money | None:
    """Return the total that the checkout showed, such as "2560 JPY"; None for ""."""
    amount, _space, currency = text.partition(" ")
    return Money(amount=int(amount), currency=currency) if text else None


def lines_of(texts: list[str]) -> dict[str, int]:
    """Return units by SKU from the checkout's lines, such as "TEA-SENCHA 2". Skip malformed ones.

    The form repeats the lines that the customer saw. So a form that is sent again places the same
    order, although the basket is empty by then.
    """
    lines: dict[str, int] = {}
    for text in texts[:MOST_PRODUCTS]:
        sku, _space, quantity = text.rpartition(" ")
        if sku and len(sku) <= LONGEST_SKU and quantity.isascii() and quantity.isdigit():
            lines[sku] = min(int(quantity[:4]), MOST_UNITS)
    return {sku: quantity for sku, quantity in lines.items() if quantity}


class SignInForm(ShortNameMixin, AuthenticationForm):
    """The name and the password of a customer."""


class SignUpForm(UserCreationForm):  # type: ignore[type-arg]  # generic in stubs only
    """A new customer: name, e-mail address and password."""

    email = _address_field()

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ("username", "email")


class ChangeAddressForm(forms.Form):
    """Another e-mail address for an account, with the present password."""

    email = _address_field()
    password = forms.CharField(
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        """Refuse a wrong password."""
        password: str = self.cleaned_data["password"]
        if not self.user.check_password(password):
            raise forms.ValidationError(_("Your password is wrong. Give the present one."))
        return password


class ForgottenPasswordForm(PasswordResetForm):
    """The e-mail address of a customer who forgot the password."""

    def get_users(self, email: str) -> Iterator[User]:
        """Return the customers with this address. Staff get a new password in the admin."""
        found = super().get_users(email)
        return (user for user in found if not (user.is_staff or user.is_superuser))

    def save(  # type: ignore[override]  # Django's view gives the request, and options of an e-mail
        self, *, request: HttpRequest, **options: Any
    ) -> None:
        """Request the e-mail. It is sent by another process, so the answer takes as long."""
        address = self.cleaned_data["email"]
        users = self._accounts(address)
        services.request_new_password(
            # Not as given: a stranger's spelling would take the place of the owner's request.
            address=users[0].email if users else address.lower(),
            user_ids=[user.pk for user in users],
            origin=site_origin(request),
        )

    def _accounts(self, address: str) -> list[User]:
        """Return the accounts of an e-mail, all with one spelling of the address.

        Accounts with a verified address come first, whatever the spelling: anybody may create
        accounts with another one. Then the given spelling is preferred, since capitals in the name
        of a mailbox may matter to its server. The oldest accounts are next.
        """
        users = list(self.get_users(address))
        verified = verification.verified_among(users)
        found = sorted(
            users, key=lambda one: (one.pk not in verified, one.email != address, one.pk)
        )
        return [one for one in found if one.email == found[0].email][: services.MOST_LINKS]

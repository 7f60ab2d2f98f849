"""The bank's test cards, as choices of the checkout.

A shop that charges real cards replaces this module by the form of its bank, which returns a token.
The shop never sees a card number.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from payments.queries import refuses_test_cards


@dataclass(frozen=True, kw_only=True)
class Card:
    """A test card: the bank's token, a name, and what the bank does with it."""

    token: str
    name: str | Promise
    effect: str | Promise


_SUCCESS = (_("Card that pays"), _("The bank accepts it at once."))
_DECLINED = (_("Card without money"), _("The bank declines it, and the order is cancelled."))

#: By the setting GATEWAY. The tokens of the simulated bank are in docs/how-to/connect-a-bank.md,
#: those of Stripe on https://docs.stripe.com/testing.
CARDS = {
    "bank": (
        Card(token="tok_success", name=_SUCCESS[0], effect=_SUCCESS[1]),  # noqa: S106  a test card
        Card(token="tok_declined", name=_DECLINED[0], effect=_DECLINED[1]),  # noqa: S106  a test card
        Card(
            token="tok_fails_3",  # noqa: S106  a test card
            name=_("Card of a failing bank"),
            effect=_("The bank fails three times. The shop tries again, and charges once."),
        ),
        Card(
            token="tok_slow",  # noqa: S106  a test card
            name=_("Card of a slow bank"),
            effect=_("The bank answers after some seconds. You need not wait."),
        ),
    ),
    "stripe": (
        Card(token="pm_card_visa", name=_SUCCESS[0], effect=_SUCCESS[1]),  # noqa: S106  a test card
        Card(
            token="pm_card_visa_chargeDeclinedInsufficientFunds",  # noqa: S106  a test card
            name=_DECLINED[0],
            effect=_DECLINED[1],
        ),
    ),
}


def cards_in_use() -> tuple[Card, ...]:
    """Return the test cards of the bank in use, the default first; none if it refuses them."""
    return () if refuses_test_cards() else CARDS[settings.GATEWAY]

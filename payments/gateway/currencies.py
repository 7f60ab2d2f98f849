"""The currencies whose amounts Stripe takes exactly. Needs no SDK.

See https://docs.stripe.com/currencies.
"""

from __future__ import annotations

from shared.money import exponent

#: Stripe counts these in other units than ISO 4217: ISK and UGX in hundredths, MGA in whole units.
OTHER_UNITS = {"ISK", "MGA", "UGX"}
#: Of a currency with three digits, Stripe refuses each amount whose last digit is not 0.
MOST_DIGITS = 2


def exact_at_stripe(currency: str) -> bool:
    """Return whether each amount in minor units of ISO 4217 is the same amount at Stripe."""
    return currency not in OTHER_UNITS and exponent(currency) <= MOST_DIGITS

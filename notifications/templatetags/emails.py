"""Filters that the e-mail templates use."""

from __future__ import annotations

from django import template
from django.utils.translation import get_language

from shared.money import Money

register = template.Library()


@register.filter
def money(amount: Money) -> str:
    """Format an amount for the current language."""
    return amount.format(get_language() or "en")

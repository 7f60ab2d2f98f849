"""Filters that the e-mail templates use."""

from __future__ import annotations

from django import template
from django.utils.translation import get_language

from money import Money

register = template.Library()


@register.filter
def money(amount: Money) -> str:
    """Write an amount as people of the current language do."""
    return amount.format(get_language() or "en")

"""Template filters and tags of the storefront."""

from __future__ import annotations

from django import template
from django.templatetags.static import static
from django.utils.translation import get_language

from shared.money import Money
from storefront.pictures import picture_of

register = template.Library()


@register.filter
def money(amount: Money) -> str:
    """Return an amount in the notation of the current language."""
    return amount.format(get_language() or "en")


@register.simple_tag
def picture(sku: str) -> str:
    """Return the URL of a product's picture."""
    return static(picture_of(sku))

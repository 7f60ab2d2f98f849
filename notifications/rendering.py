"""Render a kind of e-mail as subject, text and HTML, in the customer's language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from notifications.models import Email

Kind = Email.Kind

SUBJECTS = {
    Kind.ACKNOWLEDGEMENT: _("We have received your order %(reference)s"),
    Kind.PAYMENT: _("Your order %(reference)s is paid"),
    Kind.READY_TO_SHIP: _("Your order %(reference)s is ready to ship"),
    Kind.SHIPPING: _("Your order %(reference)s is on its way"),
    Kind.CANCELLATION: _("Your order %(reference)s is cancelled"),
    Kind.REFUND: _("We have refunded your order %(reference)s"),
}


@dataclass(frozen=True, kw_only=True)
class Rendered:
    subject: str
    text: str
    html: str


def render(
    *, kind: Email.Kind, language: str, reference: str, context: Mapping[str, Any]
) -> Rendered:
    with translation.override(language):
        subject = SUBJECTS[kind] % {"reference": reference}
        full = {**context, "reference": reference, "subject": subject, "language": language}
        return Rendered(
            subject=subject,
            text=render_to_string(f"notifications/{kind}.txt", full),
            html=render_to_string(f"notifications/{kind}.html", full),
        )

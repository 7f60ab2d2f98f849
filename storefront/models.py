"""The tables of the storefront: accounts with a verified e-mail address, and their requests."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class VerifiedAddress(models.Model):
    """An account whose user has opened a link that was sent to its e-mail address.

    Attributes:
        digest: of that address. It differs from the account's after a change of the address, which
            then counts as not verified, whoever has changed it. No address is stored. An erasure
            deletes the row, since who guesses the address can compute the digest.
    """

    user = models.OneToOneField(
        User,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="+",
        verbose_name=_("user"),
    )
    digest = models.CharField(_("digest of the address"), max_length=64)
    verified_at = models.DateTimeField(_("verified at"), auto_now=True)

    class Meta:
        verbose_name = _("verified e-mail address")
        verbose_name_plural = _("verified e-mail addresses")

    def __str__(self) -> str:
        return f"user:{self.user_id}"


class VerificationRequest(models.Model):
    """The latest request of an account for a link that verifies its address.

    Attributes:
        request_id: of its event. Requests for one address within some minutes share an event.
    """

    user = models.OneToOneField(
        User,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="+",
        verbose_name=_("user"),
    )
    request_id = models.UUIDField(_("request id"))
    requested_at = models.DateTimeField(_("requested at"), default=timezone.now)

    class Meta:
        verbose_name = _("request for a verification")
        verbose_name_plural = _("requests for a verification")

    def __str__(self) -> str:
        return f"user:{self.user_id}"

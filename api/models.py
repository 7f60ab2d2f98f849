"""Models of the API: answers under an Idempotency-Key, hashes of tokens, wrong tokens."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class StoredAnswer(models.Model):
    """The answer to one user, at one path, under one key.

    It is inserted before the work and filled after it, in the transaction of the work. So nobody
    reads one without an answer, and a duplicate request waits at the unique index.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user")
    )
    path = models.CharField(_("path"), max_length=255)
    key = models.CharField(_("SHA-256 of the key"), max_length=255)
    sealed = models.TextField(
        _("answer"),
        blank=True,
        default="",
        help_text=_("Encrypted with the key. Empty after erasure."),
    )
    stored_at = models.DateTimeField(_("stored at"), auto_now_add=True, db_index=True)

    class Meta:
        verbose_name = _("stored answer")
        verbose_name_plural = _("stored answers")
        constraints = [
            models.UniqueConstraint(fields=["user", "path", "key"], name="answer_once_per_key")
        ]

    def __str__(self) -> str:
        return self.path

    @property
    def purpose(self) -> str:
        """The purpose for which the answer is encrypted, in addition to its key."""
        return f"{self.user_id}:{self.path}"


#: Maximum characters of the label of a token.
LONGEST_LABEL = 100


class ApiToken(models.Model):
    """A token of a user. Only its hash is stored. Deleting the row revokes it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        related_name="api_tokens",
        verbose_name=_("user"),
    )
    label = models.CharField(
        _("label"), max_length=LONGEST_LABEL, help_text=_("The purpose of the token.")
    )
    digest = models.CharField(_("SHA-256"), max_length=64, unique=True, editable=False)
    start = models.CharField(
        _("first characters"), max_length=4, editable=False, help_text=_("To identify the token.")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.start}… ({self.label})"


class WrongToken(models.Model):
    """The address of a request with an invalid token. Kept while it counts: `api.throttling`."""

    address = models.CharField(_("address"), max_length=45)
    at = models.DateTimeField(_("at"), auto_now_add=True)

    class Meta:
        verbose_name = _("wrong token")
        verbose_name_plural = _("wrong tokens")
        indexes = [models.Index(fields=["address", "at"], name="wrong_tokens_of_address")]

    def __str__(self) -> str:
        return f"{self.address} {self.at:%H:%M:%S}"

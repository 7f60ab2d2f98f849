"""Models of notifications: each e-mail as written, with the time of sending, and resends."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from outbox.ids import uuid7

#: Reason for an unsent e-mail whose address and text were erased.
FORGOTTEN = _("the customer was forgotten")


class Email(models.Model):
    """One e-mail. An order has at most one of each kind; of refunds, one for each (`about`).

    It may be sent twice if a worker dies between the mail server's answer and our commit. Both have
    the same Message-ID, so that mail programs show one.
    """

    class Kind(models.TextChoices):
        ACKNOWLEDGEMENT = "acknowledgement", _("acknowledgement")
        PAYMENT = "payment", _("payment")
        READY_TO_SHIP = "ready_to_ship", _("ready to ship")
        SHIPPING = "shipping", _("shipping")
        CANCELLATION = "cancellation", _("cancellation")
        REFUND = "refund", _("refund")

    class Suppressed(models.TextChoices):
        LIMIT = "limit", _("too many e-mails to this recipient")
        ADDRESS = "address", _("not an address on the internet")

    #: About money, or the end of a contract. They have their own limit.
    ESSENTIAL = (Kind.CANCELLATION, Kind.REFUND)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    order_id = models.UUIDField(_("order"))
    kind = models.CharField(_("kind"), max_length=20, choices=Kind.choices)
    about = models.CharField(
        _("about"),
        max_length=100,
        blank=True,
        default="",
        help_text=_("The refund, because an order may have several."),
    )
    message_id = models.CharField(_("Message-ID"), max_length=320, unique=True)
    recipient = models.EmailField(_("recipient"))
    mailbox = models.CharField(
        _("mailbox"),
        max_length=254,
        blank=True,
        default="",
        editable=False,
        help_text=_("The recipient in lower case without a +tag, for the limit."),
    )
    language = models.CharField(_("language"), max_length=10)
    subject = models.CharField(pgettext_lazy("e-mail", "subject"), max_length=200)
    text = models.TextField(_("text"))
    html = models.TextField(_("HTML"))
    written_at = models.DateTimeField(_("written at"), auto_now_add=True)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)
    refusal = models.CharField(
        _("reason of the refusal"),
        max_length=500,
        blank=True,
        default="",
        help_text=_("The permanent refusal of the mail server."),
    )
    suppressed_because = models.CharField(
        _("reason of the suppression"),
        max_length=10,
        choices=Suppressed.choices,
        blank=True,
        default="",
        help_text=_(
            "Why the e-mail was written but not sent. Staff may send it again, unless the reason "
            "is its address."
        ),
    )

    class Meta:
        verbose_name = _("e-mail")
        verbose_name_plural = _("e-mails")
        ordering = ["-id"]
        permissions = [("resend_email", _("Can send e-mails again"))]
        constraints = [
            models.UniqueConstraint(
                fields=["order_id", "kind", "about"], name="email_once_per_order_and_kind"
            ),
        ]
        indexes = [models.Index(fields=["mailbox", "written_at"], name="email_mailbox")]

    def __str__(self) -> str:
        return self.subject or f"{self.get_kind_display()} {self.order_id}"

    @property
    def unsent_reason(self) -> str:
        """Why it was not sent and is not retried; empty if it was sent or is under way."""
        if self.sent_at is not None or self.is_under_way:
            return ""
        suppressed = str(self.get_suppressed_because_display())
        return suppressed or self.refusal or str(FORGOTTEN)

    @property
    def is_under_way(self) -> bool:
        """Whether it is being sent, or will be retried."""
        is_over = self.sent_at is not None or self.refusal or self.suppressed_because
        return not self.is_redacted and not is_over

    @property
    def is_essential(self) -> bool:
        """Whether it is about money, or the end of a contract."""
        return self.kind in self.ESSENTIAL

    @property
    def is_redacted(self) -> bool:
        """Whether it is blank because the customer was forgotten."""
        return not self.recipient


class Resend(models.Model):
    """A request of staff to send an e-mail once more, and its result."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.ForeignKey(
        Email, models.CASCADE, related_name="resends", verbose_name=_("e-mail")
    )
    requested_by = models.CharField(_("requested by"), max_length=150)
    requested_at = models.DateTimeField(_("requested at"), auto_now_add=True)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)
    refusal = models.CharField(
        _("reason of the refusal"),
        max_length=500,
        blank=True,
        default="",
        db_default="",
        help_text=_("The permanent refusal of the mail server."),
    )

    class Meta:
        verbose_name = _("resend")
        verbose_name_plural = _("resends")
        ordering = ["id"]

    def __str__(self) -> str:
        return str(self.email)

    @property
    def unsent_reason(self) -> str:
        """Why it was not sent and is not retried; empty if it was sent or is under way."""
        if self.sent_at is not None:
            return ""
        return self.refusal or (str(FORGOTTEN) if self.email.is_redacted else "")

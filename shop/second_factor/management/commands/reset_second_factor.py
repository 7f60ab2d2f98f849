"""`manage.py reset_second_factor alice`: for a user who lost device and recovery codes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from shop.second_factor import services


class Command(BaseCommand):
    """Remove the second factor of a user."""

    help = (
        "Remove a user's authenticator and recovery codes. Their sessions "
        "are no longer verified. Check the identity of the user first. Let "
        "them set up a new second factor at once: until then, the password "
        "alone gives access to the page that does this."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the user's name."""
        parser.add_argument("user", help=_("the user's name"))

    def handle(self, *, user: str, **_options: Any) -> None:
        """Remove the second factor, and print one sentence."""
        owner = User.objects.filter(username=user).first()
        if owner is None:
            raise CommandError(_("There is no user %(user)s.") % {"user": repr(user)})
        if not services.remove(user=owner, change="reset"):
            raise CommandError(
                _("%(user)s has no second factor, so nothing was changed.") % {"user": repr(user)}
            )
        self.stdout.write(_("%(user)s has no second factor now.") % {"user": repr(user)})

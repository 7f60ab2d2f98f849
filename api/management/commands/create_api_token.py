"""`manage.py create_api_token alice --label "nightly import"` prints a new token, once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from api.models import LONGEST_LABEL
from api.tokens import add_token, new_token


class Command(BaseCommand):
    """Print a new API token of a user."""

    help = (
        "Create an API token for a user, and print it. It is shown only "
        "once: the database has only its hash."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the user's name and a label."""
        parser.add_argument("user", help=_("the user's name"))
        parser.add_argument("--label", default="", help=_("purpose of the token"))

    def handle(self, *, user: str, label: str, **_options: Any) -> None:
        """Create the token and print it, alone on its line."""
        owner = User.objects.filter(username=user).first()
        if owner is None:
            raise CommandError(
                _("There is no user %(user)s. Add the user in the admin first.")
                % {"user": repr(user)}
            )
        _require_usable(owner, label)
        token = new_token()
        add_token(user=owner, label=label, token=token)
        self.stdout.write(token)


def _require_usable(owner: User, label: str) -> None:
    """Raise `CommandError` if the API would refuse the token, or the label is too long."""
    if not owner.is_active:
        text = _(
            "The user %(user)s is not active, so the API would refuse the token. Activate the user "
            "in the admin first."
        )
        raise CommandError(text % {"user": repr(owner.get_username())})
    if len(label) > LONGEST_LABEL:
        text = _("The label has %(length)d characters. Give at most %(most)d.")
        raise CommandError(text % {"length": len(label), "most": LONGEST_LABEL})

"""Names of the people in operations and pauses: "user:7" becomes the user's name."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import Error, connections

from outbox.deliveries.transient_errors import drop_broken_connection

logger = logging.getLogger("outbox.monitor")

_PREFIX = "user:"


def names_of(actors: Iterable[str]) -> dict[str, str]:
    """Return the user's name for each "user:7" whose user exists, by one query at most.

    A router decides which database has the users. If it cannot be read, nobody is named: the
    monitor and its alerts must not depend on it.
    """
    pks = {one.removeprefix(_PREFIX) for one in actors if one.startswith(_PREFIX)}
    if not pks:
        return {}
    try:
        users = get_user_model()._default_manager.filter(pk__in=pks)
        return {f"{_PREFIX}{user.pk}": user.get_username() for user in users}
    except (ImproperlyConfigured, ValueError, ValidationError):  # no such model, or another key
        return {}
    except Error as error:
        if connections[users.db].in_atomic_block:  # its transaction may be over
            raise
        logger.warning("The names of users could not be read from %s: %s", users.db, error)
        drop_broken_connection(using=users.db)
        return {}


def name_of(actor: str) -> str:
    """Return the user's name for "user:7", and any other actor unchanged, such as "cli:ann"."""
    return names_of([actor]).get(actor, actor)

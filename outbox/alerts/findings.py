"""Problems, and the findings of one check.

One problem is one cause, whatever the number of its deliveries. It has the same key in each check.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from outbox import databases

logger = logging.getLogger("outbox.alerts")

#: Widths of the columns.
_LONGEST_KEY, _LONGEST_PATH = 200, 500
#: A command for one database. A process of `work` or `relay` serves all.
_COMMAND = re.compile(r"`(manage\.py outbox (?!work\b|relay\b)[^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem.

    Attributes:
        key: identifies it. A check that finds it again finds the same key.
        trigger: a key of `LIMITS`.
        text: cause and next step, in sentences.
        path: path of the page of the admin about it; "" without the admin.
    """

    key: str
    trigger: str
    text: str
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The result of one check.

    Attributes:
        at: its time.
        problems: the problems by key.
        unexamined: beginnings of keys that the check may have missed. Such a problem is not
            resolved because it is missing.
    """

    at: datetime
    problems: Mapping[str, Problem]
    unexamined: tuple[str, ...] = ()

    def has_missed(self, key: str) -> bool:
        """Return whether the check may have missed this problem."""
        return key in self.problems or key.startswith(self.unexamined or ("\0",))


def key_of(*parts: str) -> str:
    """Return the parts with colons, and a digest instead of the end of a long key."""
    text = ":".join(parts)
    if len(text) <= _LONGEST_KEY:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: _LONGEST_KEY - 17]}:{digest}"


def of_database(problem: Problem, using: str) -> Problem:
    """Return a problem whose text and commands name its database, if there are several."""
    if len(databases.listed()) < 2:
        return problem
    text = _COMMAND.sub(rf"`\1 --database {using}`", problem.text)
    facts = {"using": using, "text": text}
    return replace(problem, text=_("Database %(using)s: %(text)s") % facts)


def page(name: str, **query: str) -> str:
    """Return the path of a page of the admin, or "" if the project has none, or it is too long.

    If there are several databases, it names the one that the running code works on. It has no
    script prefix: `SITE_URL` has it, and threads do not know it.

    A process without web pages may have no URLs, or may fail to import them. An alert does not need
    its link.
    """
    try:
        url = reverse(f"admin:{name}")
    except NoReverseMatch:
        return ""
    except Exception as error:  # the URLs are code of the project
        logger.debug("No link to %s: the project's URLs could not be read: %s", name, error)
        return ""
    if len(databases.listed()) > 1:
        query["database"] = databases.alias()
    path = url.removeprefix(get_script_prefix().rstrip("/"))
    found = f"{path}?{urlencode(query)}" if query else path
    return found if len(found) <= _LONGEST_PATH else ""

"""The monitor of one of several databases: `?database=ALIAS` on each of its pages.

A row's id means other rows in each database. So each link and form of a page names the page's
database, and an action of an old tab cannot act on another database than the one that it shows. The
default database needs no name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any

from django.core.exceptions import BadRequest
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import escape
from django.utils.translation import gettext as _

from outbox import clock, databases
from outbox.formatting import listing
from outbox.models import Heartbeat

NAME = "database"

#: Ends of the paths of pages that show or examine the primary.
_ON_PRIMARY = ("/correct/", "/health-checks/")
#: An attribute with an address, and the start tag of a form that sends its fields by GET.
_ADDRESS = re.compile(r'\b(href|action|formaction|hx-get)="([^"]*)"')
_GET_FORM = re.compile(r'<form\b[^>]*\bmethod="get"[^>]*>', re.IGNORECASE)


def in_database(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let a view of the admin work on the database that its request names.

    Raises:
        BadRequest: the request names a database that is not listed.
    """

    @wraps(view)
    def in_its_database(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        known = databases.listed()
        # The view sends everybody else to the login. They must not learn the aliases.
        if len(known) < 2 or not (request.user.is_active and request.user.is_staff):
            return _answer(view, request, *args, **kwargs)
        using = _listed(_take_name(request) or known[0])
        with databases.working_on(using):
            response = _answer(view, request, *args, **kwargs)
        return response if using == known[0] else _kept_in(using, response)

    return in_its_database


def _answer(
    view: Callable[..., HttpResponse], request: HttpRequest, *args: Any, **kwargs: Any
) -> HttpResponse:
    """Answer a request, and render its page. A page that only shows rows reads a replica.

    If the replica does not have the row of the page, perhaps not yet, it reads the primary. An
    action redirects to such rows.
    """
    is_read = request.method in ("GET", "HEAD") and not request.path.endswith(_ON_PRIMARY)
    replica = databases.replica_of(databases.alias()) if is_read else ""
    if not replica and not databases.listed():
        return view(request, *args, **kwargs)
    try:
        return _rendered(view, request, replica, *args, **kwargs)
    except Http404:
        if not replica:
            raise
    return _rendered(view, request, "", *args, **kwargs)


def _rendered(
    view: Callable[..., HttpResponse],
    request: HttpRequest,
    replica: str,
    *args: Any,
    **kwargs: Any,
) -> HttpResponse:
    request.outbox_replica = replica  # type: ignore[attr-defined]  # for the navigation
    with databases.working_on(replica or None):
        response = view(request, *args, **kwargs)
        if hasattr(response, "render"):
            response.render()  # its template reads rows
    return response


@dataclass(frozen=True)
class Copy:
    """The replica that a page shows.

    Attributes:
        name: its alias.
        age: how old its rows are at most; None if no process of the outbox has run.
    """

    name: str
    age: timedelta | None


def shown_copy(request: HttpRequest) -> Copy | None:
    """Return the replica that a page shows; None if it shows the database itself.

    A replica that has a heartbeat has all that was committed before it. So its rows are at most as
    old as the latest heartbeat.
    """
    replica = getattr(request, "outbox_replica", "")
    if not replica:
        return None
    latest = Heartbeat.objects.using(replica).aggregate(at=Max("seen_at"))["at"]
    age = max(timedelta(0), clock.now(using=replica) - latest) if latest else None
    return Copy(replica, age)


@dataclass(frozen=True)
class Choice:
    """A database that a page offers."""

    name: str
    url: str
    is_shown: bool


def choices() -> Iterator[Choice]:
    """Yield the databases, if there are several, with the overview of each."""
    known = databases.listed()
    url = reverse("admin:outbox_minute_changelist")
    shown = databases.primary_of(databases.alias())
    for using in known if len(known) > 1 else ():
        yield Choice(using, f"{url}?{NAME}={using}", using == shown)


def in_named_database(html: str, request: HttpRequest) -> str:
    """Let the links and forms of the app's index stay in the database that its request names.

    The index is a view of the project's site, which shows it to staff only.

    Raises:
        BadRequest: the request names a database that is not listed.
    """
    known, using = databases.listed(), request.GET.get(NAME, "")
    if len(known) < 2 or using in ("", known[0]):
        return html
    return _html_kept_in(_listed(using), html)


def _listed(using: str) -> str:
    """Return a name of a database if it is listed, or raise `BadRequest`."""
    known = databases.listed()
    if using not in known:
        raise BadRequest(
            _("The outbox has no database %(using)s. Its databases: %(names)s.")
            % {"using": using, "names": listing(known)}
        )
    return using


def _take_name(request: HttpRequest) -> str:
    """Return the database that a request names. Hide it from lists, which know their filters."""
    query = request.GET.copy()
    using = query.pop(NAME, [""])[-1]
    query._mutable = False  # as that of each request
    request.GET = query  # type: ignore[assignment]  # it is immutable now
    return str(using)


def _kept_in(using: str, response: HttpResponse) -> HttpResponse:
    """Let the links, forms and redirects of a response stay in a database."""
    if isinstance(response, HttpResponseRedirect):
        response["Location"] = _named(response["Location"], using, _base())
    elif not response.streaming and "html" in response.get("Content-Type", ""):
        html = _html_kept_in(using, response.content.decode(response.charset))
        response.content = html.encode(response.charset)
        if "Content-Length" in response:
            response["Content-Length"] = str(len(response.content))
    return response


def _html_kept_in(using: str, html: str) -> str:
    base = _base()
    html = _ADDRESS.sub(
        lambda found: f'{found[1]}="{_named(found[2], using, base, join="&amp;")}"', html
    )
    field = f'<input type="hidden" name="{NAME}" value="{escape(using)}">'
    return _GET_FORM.sub(lambda found: found[0] + field, html)


def _base() -> str:
    return reverse("admin:app_list", args=["outbox"])


def _named(address: str, using: str, base: str, *, join: str = "&") -> str:
    """Return an address of the outbox's pages with its database."""
    if not address.startswith((base, "?")) or f"{NAME}=" in address:
        return address
    path, mark, fragment = address.partition("#")
    sign = join if "?" in path else "?"
    sign = "" if path.endswith("?") else sign
    return f"{path}{sign}{NAME}={using}{mark}{fragment}"

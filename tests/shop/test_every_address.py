"""Every address of the site, those of a new app too: who gets anything there who has no right to?

What the monitor's pages ask for in particular is in tests/outbox/test_permissions.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern

from api.tokens import add_token

pytestmark = pytest.mark.django_db

#: For everybody: they show nothing of anybody.
PUBLIC = {
    "/",
    "/api/docs/",
    "/api/schema/",
    "/api/products/",
    "/admin/login/",
}
#: For all staff, whatever their rights: their own account, and a start page that lists theirs.
FOR_STAFF = {
    "/admin/",
    "/admin/jsi18n/",
    "/admin/password_change/",
    "/admin/password_change/done/",
    "/admin/second-factor/",
    "/admin/second-factor/enrol/",
}


def addresses(
    patterns: list[URLPattern | URLResolver] | None = None, before: str = "/"
) -> Iterator[str]:
    """Each address that can be asked for, with something in the place of each part that varies."""
    for one in get_resolver().url_patterns if patterns is None else patterns:
        if not isinstance(one.pattern, RoutePattern):
            continue  # "anything else", which is answered by 404 or by a redirect
        here = before + filled(one.pattern)
        if isinstance(one, URLResolver):
            yield from addresses(one.url_patterns, here)
        else:
            yield here


def filled(pattern: RoutePattern) -> str:
    route = str(pattern)
    for name, converter in pattern.converters.items():
        kind = type(converter).__name__.removesuffix("Converter").lower()
        value = str(uuid4()) if kind == "uuid" else "1"
        for spelling in (f"<{kind}:{name}>", f"<path:{name}>", f"<slug:{name}>", f"<{name}>"):
            route = route.replace(spelling, value)
    assert "<" not in route, route
    return route


def answers(client: Client, **headers: str) -> dict[str, tuple[int, str]]:
    """The status of each address, and where it leads."""
    found = {}
    for url in sorted(set(addresses())):
        answer = client.get(url, headers=headers)
        found[url] = (answer.status_code, answer.headers.get("Location", ""))
    return found


class TestEveryAddress:
    def test_is_walked(self):
        """The walk finds what it is there for: each kind of address, and pages of several apps."""
        found = set(addresses())

        assert {*PUBLIC, *FOR_STAFF} <= found
        assert {"/admin/outbox/minute/periodic/", "/admin/orders/order/processes/"} <= found
        assert len(found) > 100

    def test_shows_nothing_to_a_stranger(self, client: Client):
        shown = {url for url, (status, _to) in answers(client).items() if status == 200}

        assert shown == PUBLIC

    def test_shows_nothing_of_the_admin_to_a_customer(self, client: Client):
        client.force_login(User.objects.create_user("alice"))

        shown = [
            url
            for url, (status, _location) in answers(client).items()
            if url.startswith("/admin/") and status == 200
        ]

        assert set(shown) <= {"/admin/login/"}

    def test_shows_nothing_to_staff_without_rights(self, client: Client):
        client.force_login(User.objects.create_user("ann", is_staff=True))

        shown = {
            url
            for url, (status, _location) in answers(client).items()
            if url.startswith("/admin/") and status == 200
        }

        assert shown == FOR_STAFF

    def test_shows_nothing_of_the_admin_for_a_token(self):
        add_token(user=User.objects.create_superuser("root"), label="", token="right")

        shown = [
            url
            for url, (status, _location) in answers(Client(), Authorization="Bearer right").items()
            if url.startswith("/admin/") and status == 200
        ]

        assert shown == ["/admin/login/"]

    def test_breaks_for_nobody(self, admin_client: Client):
        broken = {url: code for url, (code, _to) in answers(admin_client).items() if code >= 500}

        assert broken == {}

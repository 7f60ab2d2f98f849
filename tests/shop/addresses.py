"""Every address of the site, found by walking the URL resolver."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from django.apps import apps
from django.contrib.admin.utils import quote as admin_quote
from django.contrib.admindocs.views import simplify_regex
from django.db.models import Model
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern

#: The models of the rows that an address of API or storefront names, by the first step of its path.
API_MODELS = {"orders": "orders.Order", "webhooks": "webhooks.Endpoint"}
#: What stands in place of a part that names no row.
OTHER_PARTS = {"app_label": "auth", "code": "not_found", "content_type_id": "1", "url": "nowhere"}
OTHER_PARTS |= {"uidb64": "MQ", "token": "abc-def"}

_PART = re.compile(r"<(?:\w+:)?(\w+)>")

Rows = Mapping[type[Model], Model]


@dataclass(frozen=True, order=True)
class Address:
    """An address as the resolver knows it: "/admin/orders/order/<path:object_id>/change/"."""

    route: str
    name: str
    view: Callable[..., Any] = field(compare=False, repr=False)

    @property
    def parts(self) -> list[str]:
        """The names of the parts that vary."""
        return _PART.findall(self.route)

    def url(self, rows: Rows, **values: str) -> str:
        """Fill in the keys of stored rows, or the given values, quoted."""

        def fill(match: re.Match[str]) -> str:
            part = match[1]
            if part in values:
                return quote(values[part], safe="")
            return OTHER_PARTS.get(part) or quote(str(admin_quote(rows[self._model()].pk)), safe="")

        return _PART.sub(fill, self.route)

    def _model(self) -> type[Model]:
        _empty, site, first, *rest = self.route.split("/")
        if site in API_MODELS:  # of the storefront
            return apps.get_model(API_MODELS[site])
        if site == "api":
            return apps.get_model(API_MODELS[first])
        return apps.get_model("auth.User" if first == "r" else f"{first}.{rest[0]}")


def addresses(
    patterns: Sequence[URLPattern | URLResolver] | None = None, before: str = "/", space: str = ""
) -> Iterator[Address]:
    """Return each address, those that take anything included."""
    for one in get_resolver().url_patterns if patterns is None else patterns:
        is_regex = isinstance(one.pattern, RegexPattern)
        route = str(one.pattern)
        here = before + (simplify_regex(route).lstrip("/") if is_regex else route)
        if isinstance(one, URLResolver):
            yield from addresses(one.url_patterns, here, f"{one.namespace or space}")
        else:
            name = f"{space}:{one.name}" if space and one.name else one.name or ""
            yield Address(here, name, one.callback)

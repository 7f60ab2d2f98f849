"""The forms of a page, read from its HTML, with the values that a browser would send."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

Attributes = dict[str, str]

#: Buttons and choices that make a form another one; of other buttons the first is pressed.
_DECIDE = ("action", "_selected_action")


@dataclass
class Form:
    """One form: where it goes, how, and the values of its fields."""

    url: str
    method: str
    fields: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, *values: str) -> None:
        self.fields.setdefault(name, []).extend(values)

    @property
    def action(self) -> str:
        """The admin action that it carries out; "" for none."""
        return next(iter(self.fields.get("action", ())), "")

    def pairs(self) -> list[tuple[str, str]]:
        """Names and values, encoded."""
        return [
            (quote(name), quote(value)) for name, values in self.fields.items() for value in values
        ]

    @property
    def model(self) -> str:
        """Where it goes, whichever row it is about: "/admin/orders/order"."""
        return "/".join(self.url.partition("?")[0].split("/")[:4])


def forms_of(html: str, url: str) -> list[Form]:
    """Return the forms of a page, one for each action that it offers."""
    parser = _Parser(url)
    parser.feed(html)
    return [one for form in parser.forms for one in _pressed(form, parser.buttons)]


def _pressed(form: Form, buttons: list[tuple[Form, str, str]]) -> list[Form]:
    mine = [(name, value) for of, name, value in buttons if of is form and name]
    chosen = [one for one in mine if one[0] in _DECIDE] or mine[:1]
    return [replace(form, fields={**form.fields, name: [value]}) for name, value in chosen] or [
        form
    ]


class _Parser(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.buttons: list[tuple[Form, str, str]] = []
        self._url = url
        self._ids: dict[str, Form] = {}
        self._open: Form | None = None
        self._select: tuple[Form, str] | None = None
        self._textarea: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._begin(given)
        elif tag == "option" and self._select:
            self._option(given)
        elif form := self._ids.get(given.get("form", "")) or self._open:
            self._control(tag, given, form)

    def _begin(self, given: Attributes) -> None:
        url = urljoin(self._url, given.get("action", ""))
        self._open = Form(url, given.get("method", "get").upper())
        self.forms.append(self._open)
        self._ids[given.get("id", "no id")] = self._open

    def _control(self, tag: str, given: Attributes, form: Form) -> None:
        name, kind = given.get("name", ""), given.get("type", "")
        if tag == "button" or kind == "submit":
            self.buttons.append((form, name, given.get("value", "")))
        elif not name:
            return
        elif tag == "input":
            self._input(name, kind, given, form)
        elif tag == "select":
            self._select = (form, name)
            form.add(name)
        elif tag == "textarea":
            form.add(name)
            self._textarea = form.fields[name]

    def _input(self, name: str, kind: str, given: Attributes, form: Form) -> None:
        is_box = kind in ("checkbox", "radio")
        if is_box and "checked" not in given and name != "_selected_action":
            form.add(name)
        else:
            form.add(name, given.get("value", "on" if is_box else ""))

    def _option(self, given: Attributes) -> None:
        assert self._select
        form, name = self._select
        if name == "action":
            self.buttons += [(form, name, given["value"])] if given.get("value") else []
        elif "selected" in given:
            form.add(name, given.get("value", ""))

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            self._textarea[:] = ["".join([*self._textarea, data])]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select":
            self._select = None
        elif tag == "textarea":
            self._textarea = None

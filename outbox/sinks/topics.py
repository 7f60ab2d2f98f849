"""Templates of a sink's `TOPIC` and of `OUTBOX["SCHEMA_URL"]`, filled from an event."""

from __future__ import annotations

from collections.abc import Collection
from string import Formatter

from django.core.exceptions import ImproperlyConfigured

from outbox.formatting import did_you_mean

#: Placeholders of TOPIC: app label, class name, "app.ClassName", version and key of the event.
TOPIC_FIELDS = ("app", "event", "name", "version", "key")
#: Placeholders of SCHEMA_URL.
SCHEMA_FIELDS = ("app", "event", "name", "version")


def refuse_bad_template(place: str, template: str, fields: Collection[str]) -> None:
    """Raise `ImproperlyConfigured` for a template with other placeholders than these.

    Args:
        place: the setting, for the error. The template is not quoted: a URL may have a token.
    """
    known = ", ".join(f"{{{name}}}" for name in fields)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{place} is no valid template: {error}. Its placeholders are {known}; "
            "write {{ and }} for braces."
        ) from error
    for _text, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise ImproperlyConfigured(
                f"{place} has the unknown placeholder {{{name}}}. "
                f"{hint + ' ' if hint else ''}The placeholders are {known}."
            )
        if spec or conversion:
            raise ImproperlyConfigured(
                f"{place} formats the placeholder {{{name}}}. Write {{{name}}} without a format."
            )


def filled(template: str, *, name: str, version: int, key: str) -> str:
    """Return a template with its placeholders replaced.

    Args:
        name: the event's name, "app.ClassName".
        key: the event's key, in the characters that the destination allows.
    """
    if "{" not in template and "}" not in template:
        return template
    app, _, event = name.partition(".")
    return template.format(app=app, event=event, name=name, version=version, key=key)

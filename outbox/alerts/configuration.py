"""The configured alerts, `OUTBOX["ALERTS"]`: each entry validated.

No error quotes a URL. The URL of a webhook or of a ping is a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from outbox.conf import conf
from outbox.formatting import did_you_mean
from outbox.sinks.entries import Entry

from .quiet_hours import QuietHours, quiet_hours

FAILING, DEAD, LAG, SILENT = "failing", "dead", "lag", "silent"
BREAKER, PAUSED, SOURCE, SETTLEMENT = "breaker", "paused", "source", "settlement"

#: Seconds of each trigger before a message. Of "lag": seconds that a due delivery has waited. Of
#: the others: seconds from the first check that finds the problem.
LIMITS: Mapping[str, float] = MappingProxyType(
    {
        FAILING: 60.0,
        DEAD: 0.0,
        LAG: 300.0,
        SILENT: 60.0,
        BREAKER: 60.0,
        PAUSED: 3600.0,
        SOURCE: 60.0,
        SETTLEMENT: 60.0,
    }
)
TRIGGERS = frozenset(LIMITS)

Kind = Literal["EMAIL", "WEBHOOK", "CALL"]
EMAIL: Kind = "EMAIL"
WEBHOOK: Kind = "WEBHOOK"
CALL: Kind = "CALL"

_KEYS = ("CHANNELS", "LIMITS", "SITE_URL", "DEAD_MAN")
_OPTIONS = ("FROM", "TRIGGERS", "REPEAT_SECONDS", "TIMEOUT_SECONDS", "QUIET_HOURS")
_DEAD_MAN_KEYS = ("URL", "METHOD", "SECONDS", "TIMEOUT_SECONDS")

_REPEAT_SECONDS = 4 * 3600.0
_TIMEOUT_SECONDS = 10.0
#: Width of the column with the channel's name.
_LONGEST_NAME = 50
_PLACE = 'OUTBOX["ALERTS"]'


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """One channel, with its defaults filled in.

    Attributes:
        name: its key in `CHANNELS`.
        kind: how it sends.
        to: addresses of an e-mail.
        sender: sender of an e-mail; "": Django's `DEFAULT_FROM_EMAIL`.
        target: URL of a webhook, or dotted path of a function.
        triggers: the triggers whose problems it reports, without those that are off.
        repeat: seconds between two messages about one open alert; None: one message only.
        timeout: seconds of each step of sending.
        quiet: its quiet hours, or None.
    """

    name: str
    kind: Kind
    to: tuple[str, ...] = ()
    sender: str = ""
    target: str = field(default="", repr=False)
    triggers: frozenset[str] = TRIGGERS
    repeat: float | None = _REPEAT_SECONDS
    timeout: float = _TIMEOUT_SECONDS
    quiet: QuietHours | None = None


@dataclass(frozen=True, kw_only=True)
class DeadManConfig:
    """The ping that stops when relay or beat stops.

    Attributes:
        url: the URL of the service that raises an alarm without a ping.
        method: "GET" or "POST".
        seconds: seconds between two pings.
        timeout: seconds of each step of one ping.
    """

    url: str = field(repr=False)
    method: str = "GET"
    seconds: float = 60.0
    timeout: float = _TIMEOUT_SECONDS


@dataclass(frozen=True, kw_only=True)
class AlertsConfig:
    """`OUTBOX["ALERTS"]`.

    Attributes:
        channels: the channels by name.
        limits: by trigger the seconds before a message. A trigger that is off is missing.
        site_url: URL in front of the paths of admin pages; "": messages have no links.
        dead_man: the ping, or None.
    """

    channels: Mapping[str, ChannelConfig] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=lambda: LIMITS)
    site_url: str = ""
    dead_man: DeadManConfig | None = None

    @property
    def is_on(self) -> bool:
        """Whether a process has anything to do."""
        return bool(self.channels or self.dead_man)


def configured() -> AlertsConfig:
    """Return the alerts of the settings.

    Raises:
        ImproperlyConfigured: an entry is invalid. The text names it, the cause and the next step.
    """
    global _read
    given = getattr(settings, "OUTBOX", {})
    if _read is None or _read[0] is not given:
        _read = (given, _configured(conf(lenient=True).ALERTS))
    return _read[1]


#: The value of the setting that was read last, and its alerts.
_read: tuple[object, AlertsConfig] | None = None


def _configured(given: object) -> AlertsConfig:
    entry = Entry(_PLACE, given, _KEYS)
    if not given:
        return AlertsConfig()
    given_channels = entry.options("CHANNELS", proper="a dict: name of a channel to its dict")
    channels = {name: _channel(name, one) for name, one in given_channels.items()}
    limits = _limits(entry)
    on = frozenset(limits)
    config = AlertsConfig(
        channels={name: replace(one, triggers=one.triggers & on) for name, one in channels.items()},
        limits=limits,
        site_url=_url(entry, "SITE_URL").rstrip("/") if entry.has("SITE_URL") else "",
        dead_man=_dead_man(entry) if entry.has("DEAD_MAN") else None,
    )
    if not config.is_on:
        raise ImproperlyConfigured(
            f"{_PLACE} has neither CHANNELS nor DEAD_MAN, so no message is sent. Add a channel: "
            '"CHANNELS": {"mail": {"EMAIL": ["you@example.com"]}}.'
        )
    return config


def _limits(entry: Entry) -> Mapping[str, float]:
    limits = entry.options("LIMITS", proper="a dict: trigger to seconds, or None to turn it off")
    given = Entry(entry.name("LIMITS"), limits, sorted(TRIGGERS))
    found: dict[str, float] = {}
    for trigger, default in LIMITS.items():
        seconds = given.number(trigger, default=default)
        if seconds is not None:
            found[trigger] = seconds
    return found


def _channel(name: object, given: object) -> ChannelConfig:
    if not isinstance(name, str) or not name.isidentifier() or len(name) > _LONGEST_NAME:
        raise ImproperlyConfigured(
            f'{_PLACE}["CHANNELS"] has the invalid name {name!r}. Use letters, digits and "_", '
            f"begin with a letter, and use at most {_LONGEST_NAME} characters."
        )
    entry = Entry(f'{_PLACE}["CHANNELS"]["{name}"]', given, (EMAIL, WEBHOOK, CALL, *_OPTIONS))
    kind = _kind(entry)
    triggers = _triggers(entry)
    hours = entry.options("QUIET_HOURS", proper="a dict with FROM, TO and TIME_ZONE")
    return ChannelConfig(
        name=name,
        kind=kind,
        to=entry.texts(EMAIL, proper="a list of e-mail addresses") if kind == EMAIL else (),
        sender=entry.text("FROM", default=""),
        target=_target(entry, kind),
        triggers=triggers,
        repeat=entry.number("REPEAT_SECONDS", default=_REPEAT_SECONDS, least=60.0),
        timeout=entry.seconds("TIMEOUT_SECONDS", default=_TIMEOUT_SECONDS),
        quiet=quiet_hours(entry.name("QUIET_HOURS"), hours, TRIGGERS) if hours else None,
    )


def _kind(entry: Entry) -> Kind:
    kinds: tuple[Kind, ...] = (EMAIL, WEBHOOK, CALL)
    given = [one for one in kinds if entry.has(one)]
    if len(given) != 1:
        has = " and ".join(given) or "none of them"
        raise ImproperlyConfigured(
            f"{entry.place} needs one of EMAIL (addresses), WEBHOOK (a URL) and CALL (the dotted "
            f"path of a function). It has {has}."
        )
    return given[0]


def _target(entry: Entry, kind: Kind) -> str:
    if kind == WEBHOOK:
        return _url(entry, WEBHOOK)
    path = entry.text(CALL, default="")
    if kind == CALL and not callable(entry.imported(CALL, path)):
        raise entry.invalid(CALL, f"{path} is not callable")
    return path


def _triggers(entry: Entry) -> frozenset[str]:
    if not entry.is_given("TRIGGERS"):
        return TRIGGERS
    if not entry.has("TRIGGERS"):
        reason = "it is empty, so no message would be sent; leave it out for all triggers"
        raise entry.invalid("TRIGGERS", reason)
    given = entry.texts("TRIGGERS", proper="a list of triggers")
    for one in given:
        if one not in TRIGGERS:
            hint = did_you_mean(one, TRIGGERS) or f"The triggers: {', '.join(sorted(TRIGGERS))}."
            raise entry.invalid("TRIGGERS", f"{one!r} is no trigger. {hint}".rstrip(".?"))
    return frozenset(given)


def _dead_man(entry: Entry) -> DeadManConfig:
    mine = Entry(
        entry.name("DEAD_MAN"), entry.options("DEAD_MAN", proper="a dict with URL"), _DEAD_MAN_KEYS
    )
    return DeadManConfig(
        url=_url(mine, "URL"),
        method=mine.choice("METHOD", ("GET", "POST")) or "GET",
        seconds=mine.number("SECONDS", default=60.0, least=10.0) or 60.0,
        timeout=mine.seconds("TIMEOUT_SECONDS", default=_TIMEOUT_SECONDS),
    )


def _url(entry: Entry, key: str) -> str:
    """Return a URL of http or https. The error does not quote it."""
    given = entry.text(key)
    try:
        parts = urlsplit(given)
        is_valid = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        is_valid = False
    if not is_valid or not given.isascii() or not given.isprintable() or " " in given:
        raise entry.invalid(key, 'it must be a URL in ASCII that begins with "https://"')
    if "@" in parts.netloc:
        raise entry.invalid(key, "it contains a user; use a URL with a token in its path")
    return given

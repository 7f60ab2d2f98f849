"""Findings about sources: their processes, their lag, and whether the other system is reachable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox import clock
from outbox.formatting import listing, span
from outbox.monitor.sources import SourceStatus, source_statuses
from outbox.sources.base import SourceUnavailable
from outbox.sources.configuration import SourceConfig, configured

from .findings import Finding, error, ok, warning


def examine(*, using: str, has_failures: bool = True) -> Iterator[Finding]:
    """Examine what the processes of the sources have stored about themselves.

    Args:
        using: the outbox's database alias.
        has_failures: quote the error of a source that does not receive.
    """
    configured()  # an invalid setting is a finding
    for one in source_statuses(using=using):
        yield from _of_process(one, has_failures=has_failures, using=using)


def examine_systems(*, timeout: float) -> Iterator[Finding]:
    """Ask the external system of each source whether its topics exist and may be read."""
    for name, source in sorted(configured().items()):
        if not source.is_pulled:
            continue
        part, problems = f"source {name}", _problems(source, timeout=timeout)
        for problem in problems:
            text, _dot, advice = problem.partition(". ")
            yield error(
                part, f"{text.removesuffix('.')}.", advice or _("See the log of its process.")
            )
        if not problems:
            yield ok(part, _("Its topics exist and can be read."))


def _problems(source: SourceConfig, *, timeout: float) -> Sequence[str]:
    try:
        made = source.create()
        try:
            return made.check(timeout=timeout)
        finally:
            made.close()
    except (ImproperlyConfigured, SourceUnavailable) as problem:
        return [str(problem)]
    except Exception as problem:  # its text may quote a credential
        return [_("It could not be asked: %(name)s.") % {"name": type(problem).__name__}]


def _of_process(one: SourceStatus, *, has_failures: bool, using: str) -> Iterator[Finding]:
    part, now = f"source {one.name}", clock.now(using=using)
    if one.is_pulled and not one.processes:
        seen = one.seen.age(now)
        yield error(
            part,
            _("Its process was last seen %(seen)s ago.") % {"seen": seen}
            if seen
            else _("No process has received it."),
            _(
                "Start `manage.py outbox receive %(name)s`. Until then its "
                "messages wait in the other system, which may delete them by age."
            )
            % {"name": one.name},
        )
    elif one.failing_at:
        text, step = _("It has not received for %(failing)s."), _("See the log of its process.")
        if has_failures:
            text = _("It has not received for %(failing)s: %(failure)s")
            step = _("Correct this first.")
        facts = {"failing": span(now - one.failing_at), "failure": one.failure}
        yield error(part, text % facts, step)
    elif one.paused_at:
        yield warning(
            part,
            _("It is paused for %(now)s: its events have too many owed deliveries.")
            % {"now": span(now - one.paused_at)},
            _("`manage.py outbox status` shows the handlers. Give their queues more workers."),
        )
    else:
        yield ok(part, _in_words(one))


def _in_words(one: SourceStatus) -> str:
    numbers = listing(_outcome(name, number) for name, number in one.counts.items() if number)
    counts = _("Messages since its start: %(numbers)s.") % {"numbers": numbers or _("none")}
    if not one.is_pulled:
        return _("The other system calls it. %(counts)s") % {"counts": counts}
    lag = _("unknown") if one.lag is None else _("%(lag)s messages") % {"lag": f"{one.lag:,}"}
    return _("It receives. Lag: %(lag)s. %(counts)s") % {"lag": lag, "counts": counts}


def _outcome(name: str, number: int) -> str:
    """Return a number of messages with their outcome: "1 duplicate", "2 duplicates", "2 stored"."""
    texts = {
        "stored": _("%s stored"),
        "duplicates": ngettext("%s duplicate", "%s duplicates", number),
        "unreadable": _("%s unreadable"),
        "unknown": _("%s of an unknown type"),
        "dropped": _("%s dropped"),
        "settlements": ngettext("%s settlement", "%s settlements", number),
        "ignored": ngettext("%s ignored settlement", "%s ignored settlements", number),
    }
    return texts[name] % f"{number:,}"

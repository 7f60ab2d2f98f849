"""Blank a person's data in stored events, and let every app blank its own."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import CommandError

from outbox.operations import redact
from outbox.privacy import redaction
from outbox.privacy.redaction import Redaction

from .common import count, operator


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the subject or keys, the reason, --force and --dry-run."""
    parser.add_argument(
        "--subject", default="", help="who, as the events name their subject: customer:7"
    )
    parser.add_argument(
        "--key", action="append", default=[], help="all events of this key; may be repeated"
    )
    parser.add_argument("--reason", required=True, help="why, for the log")
    parser.add_argument(
        "--force", action="store_true", help="also events that are owed: handlers read blanks"
    )
    parser.add_argument("--dry-run", action="store_true", help="count what would be blanked")


def run(options: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """Redact, or count. Fail if events are left, and name the command that shows them."""
    if not (options["subject"] or options["key"]):
        raise CommandError("Say whose data: --subject SUBJECT, or --key KEY.")
    wanted = {
        "subject": options["subject"],
        "keys": options["key"],
        "by": operator(),
        "reason": options["reason"],
        "force": options["force"],
    }
    done = redaction.redact(**wanted, dry_run=True) if options["dry_run"] else redact(**wanted)
    write(_summary(done, dry_run=options["dry_run"]))
    if options["dry_run"]:
        return
    why = f"`manage.py outbox why {shlex.quote(options['subject'] or options['key'][0])}`"
    if options["subject"]:
        write(
            "The apps erase their own rows by themselves, some of them later. What is still owed "
            f"or delayed is shown by {why}."
        )
    if left := [*_owed_texts(done, why), *_unknown_texts(done)]:
        raise CommandError(" ".join(left))


def _owed_texts(done: Redaction, why: str) -> list[str]:
    if not done.owed:
        return []
    return [
        f"{count(done.owed, 'event')} left as they are, since a handler is still owed them or "
        f"they are delayed: see {why}. Run it again when they are settled, or with --force; "
        "--force does not blank delayed events."
    ]


def _unknown_texts(done: Redaction) -> list[str]:
    if not done.unknown:
        return []
    kinds = ", ".join(f"{kind} ({number:,})" for kind, number in sorted(done.unknown.items()))
    return [
        f"{count(done.unknown.total(), 'event')} left as they are, since this release has no "
        f"schema that marks their sensitive fields: {kinds}. Run it again with a release that has "
        "the class, or its entry in events.lock.json."
    ]


def _summary(done: Redaction, *, dry_run: bool) -> str:
    would = "would be blanked" if dry_run else "blanked"
    text = (
        f"{count(done.blanked, 'event')} {would}; {done.empty:,} had nothing to blank, "
        f"{done.owed:,} are still owed."
    )
    return " ".join([text, *(_unknown_texts(done) if dry_run else ())])

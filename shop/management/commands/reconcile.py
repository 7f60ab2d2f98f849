"""Reconcile the data: print each violated invariant, and exit with 1 if there is one."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.translation import gettext as _

from shop import reconciliation


class Command(BaseCommand):
    help = "Check the invariants of all apps. The exit code is 1 if there are differences, else 0."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help=_("print one JSON object"))
        parser.add_argument(
            "--all",
            action="store_true",
            help=_("compare every payment with the bank, not only the latest"),
        )

    def handle(self, *args: Any, **options: Any) -> None:
        report = reconciliation.report_of(reconciliation.reconcile(thorough=options["all"]))
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self.stdout.write(reconciliation.as_text(report))
        if not report["balanced"]:
            sys.exit(1)

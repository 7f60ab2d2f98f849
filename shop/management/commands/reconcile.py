"""Reconcile the data: print each violated invariant, and exit with 1 if there is one."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from shop import reconciliation


class Command(BaseCommand):
    help = (
        "Reconcile the reconciliation of all apps. Ends with 1 if something differs, else with 0."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs: one JSON object")
        parser.add_argument(
            "--all",
            action="store_true",
            help="ask the bank about every payment, not only about the latest",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        report = reconciliation.report_of(reconciliation.reconcile(thorough=options["all"]))
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        else:
            self.stdout.write(reconciliation.as_text(report))
        if not report["balanced"]:
            sys.exit(1)

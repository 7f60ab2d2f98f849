"""The reference matches the code: events, names, commands, states."""

from __future__ import annotations

import inspect
import json
import re
from argparse import ArgumentParser, _SubParsersAction

from django.urls import get_resolver

import outbox
from api.management.commands.create_api_token import Command as TokenCommand
from api.schema import PROBLEM
from orders.models import Order
from outbox import subscribe
from outbox.contracts.catalogue import catalogue
from outbox.management.cli import in_databases
from outbox.management.commands.outbox import Command as OutboxCommand
from outbox.models import Delivery
from outbox.testing import Outbox
from shop.management.commands.demo import Command as DemoCommand
from shop.management.commands.reconcile import Command as ReconcileCommand
from shop.management.commands.up import Command as UpCommand
from shop.problems import known_problems
from tests.docs.pages import ROOT, Page, names_in

EVENTS = Page("docs/reference/events.md")
API = Page("docs/reference/public-api.md")
COMMANDS = Page("docs/reference/commands.md")
STATES = Page("docs/reference/delivery-states.md")
PROCESS = Page("docs/reference/order-process.md")
ERRORS = Page("docs/reference/api-errors.md")
GLOSSARY = Page("docs/reference/glossary.md")

# The page is about the shop's own apps; an app that a team adds is not held to it.
APPS = {"orders", "inventory", "payments", "notifications", "storefront", "webhooks"}
DJANGOS_OWN = {
    *("--help", "--version", "--verbosity", "--settings", "--pythonpath"),
    *("--traceback", "--no-color", "--force-color", "--skip-checks"),
}


class TestThePageOfEvents:
    def test_has_each_event_with_its_fields_and_handlers(self):
        shown = {
            names_in(row[0])[0]: (names_in(row[1]), sorted(names_in(row[2])))
            for row in EVENTS.table("Events and their subscribers")
        }

        assert shown == {
            entry.name: (
                [field.name for field in entry.fields],
                sorted(one.name for one in entry.handlers if app_of(one.name) in APPS),
            )
            for entry in catalogue()
            if app_of(entry.name) in APPS
        }


class TestThePageOfTheOrderProcess:
    def test_has_each_status_and_its_transitions(self):
        shown = {
            names_in(row[0])[0]: set(re.findall(r"\w+", row[2]))
            for row in PROCESS.table("The order process")
        }

        assert shown == {
            status.value: {str(one) for one in Order.TRANSITIONS.get(status, ())}
            for status in Order.Status
        }

    def test_names_events_and_handlers_that_exist(self):
        entries = catalogue()
        known = {entry.name for entry in entries}
        known |= {handler.name for entry in entries for handler in entry.handlers}

        named = re.findall(rf"\b(?:{'|'.join(APPS)})\.[A-Za-z_]+\b", PROCESS.text)

        files = {"orders.handlers", "orders.queries", "orders.services", "orders.tasks"}
        files |= {"orders.cancel_overdue"}
        assert set(named) - known - files == set()


class TestThePageOfThePublicApi:
    def test_has_a_heading_for_each_public_name(self):
        headings = set(re.findall(r"^### ([\w.]+)$", API.text, re.MULTILINE))

        assert set(outbox.__all__) <= headings
        assert {name for name in headings if "." not in name} == set(outbox.__all__)

    def test_has_each_option_of_subscribe(self):
        shown = [names_in(row[0])[0] for row in API.table("subscribe")]

        assert shown == [
            name for name in inspect.signature(subscribe).parameters if name != "events"
        ]

    def test_has_each_method_of_the_test_kit(self):
        shown = re.findall(r"^\| `outbox\.(\w+)\(", API.section("Testing"), re.MULTILINE)

        methods = [name for name in vars(Outbox) if not name.startswith("_")]
        assert shown == methods


class TestThePageOfCommands:
    def test_has_each_option_of_up(self):
        shown = {names_in(row[0])[0].split()[0] for row in COMMANDS.table("manage.py up")}

        assert shown == options(UpCommand().create_parser("manage.py", "up"))

    def test_has_each_option_of_demo(self):
        shown = {names_in(row[0])[0].split()[0] for row in COMMANDS.table("manage.py demo")}

        assert shown == options(DemoCommand().create_parser("manage.py", "demo"))

    def test_has_each_option_of_reconcile(self):
        shown = {names_in(row[0])[0] for row in COMMANDS.table("manage.py reconcile")}

        assert shown == options(ReconcileCommand().create_parser("manage.py", "reconcile"))

    def test_has_each_subcommand_of_outbox_with_its_options(self):
        shown = {
            names_in(row[0])[0].split()[0]: {name.split()[0] for name in names_in(row[1])}
            for row in COMMANDS.table("manage.py outbox")
        }

        assert shown == {
            name: options(parser)
            for name, parser in subparsers(OutboxCommand().create_parser("manage.py", "outbox"))
        }

    def test_has_each_subcommand_with_an_option_for_the_database(self):
        section = COMMANDS.section("manage.py outbox").partition("`--database ALIAS`")[2]

        rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)

        shown = [set(names_in(row)) for row in rows]
        assert shown == [in_databases.EACH, in_databases.ONE, in_databases.DEFAULT]

    def test_has_each_target_of_make(self):
        targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

        shown = set(re.findall(r"`make ([a-z-]+)`", COMMANDS.section("make")))

        assert set(targets) - {"help"} <= shown

    def test_has_each_option_of_create_api_token(self):
        shown = {
            names_in(row[0])[0].split()[0] for row in COMMANDS.table("manage.py create_api_token")
        }

        assert shown == options(TokenCommand().create_parser("manage.py", "create_api_token"))


class TestThePageOfApiErrors:
    def test_has_each_code_with_its_status(self):
        assert get_resolver().url_patterns  # the codes are those of the views, which this loads
        shown = {names_in(row[0])[0]: int(row[1]) for row in ERRORS.table("Codes")}

        assert shown == {code: kind.status_code for code, kind in known_problems().items()}

    def test_has_an_example_of_the_form_that_errors_have(self):
        (example,) = ERRORS.blocks("json")

        assert json.loads(example).keys() == PROBLEM["properties"].keys()


class TestTheDeliveryStates:
    def test_are_all_explained(self):
        shown = {names_in(row[0])[0]: row[1] == "yes" for row in STATES.table("Delivery states")}

        assert shown == {state.value: state in Delivery.OWED for state in Delivery.State}

    def test_are_in_the_glossary(self):
        row = next(row for row in GLOSSARY.table("Glossary") if row[0] == "delivery states")

        assert set(Delivery.State.values) <= set(re.findall(r"\w+", row[1]))


def app_of(name: str) -> str:
    return name.partition(".")[0]


def options(parser: ArgumentParser) -> set[str]:
    """The long names of a parser's own options."""
    found = {text for action in parser._actions for text in action.option_strings}
    return {text for text in found if text.startswith("--")} - DJANGOS_OWN


def subparsers(parser: ArgumentParser) -> list[tuple[str, ArgumentParser]]:
    actions = (one for one in parser._actions if isinstance(one, _SubParsersAction))
    return [pair for action in actions for pair in action.choices.items()]

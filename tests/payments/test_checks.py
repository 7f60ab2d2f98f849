from __future__ import annotations

import pytest
from django.core.checks import run_checks
from pytest_django import Settings


def complaints(*, deploy: bool = False) -> list[str]:
    tags = ["security"] if deploy else ["payments"]
    found = run_checks(tags=tags, include_deployment_checks=deploy)
    return [str(complaint.id) for complaint in found if str(complaint.id).startswith("payments.")]


class TestChecks:
    def test_are_silent_when_all_is_well(self, settings: Settings):
        settings.BANK_URL, settings.BANK_API_KEY = "https://bank.example", "key"
        settings.BANK_WEBHOOK_SECRETS = ["secret"]

        assert complaints() == complaints(deploy=True) == []

    @pytest.mark.parametrize("url", ["", "bank.example", "ftp://bank.example", "https://"])
    def test_want_an_address_of_the_bank(self, settings: Settings, url: str):
        settings.BANK_URL = url

        assert complaints() == ["payments.E001"]

    def test_want_a_time_out(self, settings: Settings):
        settings.BANK_TIMEOUT_SECONDS = 0

        assert complaints() == ["payments.E002"]

    def test_want_a_key_in_production(self, settings: Settings):
        settings.BANK_API_KEY, settings.BANK_WEBHOOK_SECRETS = "", ["secret"]

        assert (complaints(), complaints(deploy=True)) == ([], ["payments.W001"])

    @pytest.mark.parametrize("chosen", ["bank", "stripe"])
    def test_want_a_secret_of_the_webhooks_in_production(self, settings: Settings, chosen: str):
        settings.GATEWAY, settings.BANK_API_KEY, settings.STRIPE_API_KEY = chosen, "key", "sk_test"
        settings.BANK_WEBHOOK_SECRETS = []

        assert (complaints(), complaints(deploy=True)) == ([], ["payments.W002"])

    def test_want_a_gateway_that_there_is(self, settings: Settings):
        settings.GATEWAY = "cash"

        assert complaints() == ["payments.E003"]

    @pytest.mark.parametrize(
        ("chosen", "currency", "ids"),
        [
            ("stripe", "ISK", ["payments.E006"]),
            ("stripe", "JPY", []),
            ("bank", "ISK", []),
        ],
    )
    def test_want_a_currency_of_exact_amounts(
        self, settings: Settings, chosen: str, currency: str, ids: list[str]
    ):
        settings.GATEWAY, settings.STRIPE_API_KEY = chosen, "sk_test"
        settings.BANK_URL, settings.SHOP_CURRENCY = "https://bank.example", currency

        assert complaints() == ids

    @pytest.mark.parametrize(("key", "ids"), [("", ["payments.E005"]), ("sk_test", [])])
    def test_want_stripes_key_where_stripe_is_the_gateway(
        self, settings: Settings, key: str, ids: list[str]
    ):
        settings.GATEWAY, settings.STRIPE_API_KEY = "stripe", key
        settings.BANK_URL = settings.BANK_API_KEY = ""
        settings.BANK_WEBHOOK_SECRETS = ["whsec"]

        assert (complaints(), complaints(deploy=True)) == (ids, [])

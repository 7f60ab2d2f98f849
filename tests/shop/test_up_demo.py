"""The demo data of `manage.py up`, and its banner."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from api.models import ApiToken
from api.tokens import find_token
from inventory.models import Product
from inventory.queries import catalogue
from shop.up import banner
from shop.up.credentials import Credentials
from shop.up.demo import add_demo_data

pytestmark = pytest.mark.django_db


@pytest.fixture
def data(tmp_path: Path) -> Path:
    add_demo_data(Credentials(tmp_path))
    return tmp_path


class TestDemoData:
    def test_fills_the_catalogue(self, data: Path) -> None:
        skus = {product.sku for product in catalogue()}

        assert {line["sku"] for line in banner.ORDER["lines"]} <= skus

    def test_has_an_admin_who_can_sign_in(self, data: Path) -> None:
        admin = User.objects.get(username="admin")

        assert admin.is_superuser
        assert admin.is_staff
        assert admin.check_password(Credentials(data).get("admin", "password"))

    def test_gives_two_customers_a_token(self, data: Path) -> None:
        credentials = Credentials(data)

        assert ApiToken.objects.count() == 2
        for name in ("alice", "hanako"):
            token = find_token(credentials.get(name, "token"))
            assert token is not None
            assert token.user.username == name

    def test_stores_its_secrets_for_the_owner_only(self, data: Path) -> None:
        assert (data / "credentials.json").stat().st_mode & 0o777 == 0o600

    def test_is_added_once(self, data: Path) -> None:
        before = (data / "credentials.json").read_text(), list(Product.objects.values())

        add_demo_data(Credentials(data))

        assert ((data / "credentials.json").read_text(), list(Product.objects.values())) == before
        assert User.objects.count() == 3

    def test_gets_the_same_secrets_in_a_new_database(self, data: Path) -> None:
        before = (data / "credentials.json").read_text()
        User.objects.all().delete()

        add_demo_data(Credentials(data))

        assert (data / "credentials.json").read_text() == before

    def test_keeps_a_changed_password(self, data: Path) -> None:
        admin = User.objects.get(username="admin")
        admin.set_password("chosen by a person")
        admin.save()

        add_demo_data(Credentials(data))

        admin.refresh_from_db()
        assert admin.check_password("chosen by a person")
        assert "with the password that you chose" in banner.text(port=8000, data=data)

    def test_sets_new_passwords_after_the_file_is_lost(self, data: Path) -> None:
        (data / "credentials.json").unlink()

        add_demo_data(Credentials(data))

        password = Credentials(data).get("admin", "password")
        assert User.objects.get(username="admin").check_password(password)


class TestBanner:
    def test_has_one_line_that_places_an_order(self, data: Path) -> None:
        lines = banner.text(port=8123, data=data).splitlines()
        words = next(shlex.split(line) for line in lines if " -d " in line)

        assert words[0] == "curl"
        assert words[-1] == "http://127.0.0.1:8123/api/orders/"
        assert json.loads(words[words.index("-d") + 1]) == banner.ORDER
        assert f"Authorization: Token {Credentials(data).get('alice', 'token')}" in words

    def test_shows_the_admin_with_its_login(self, data: Path) -> None:
        text = banner.text(port=8123, data=data)

        assert "http://127.0.0.1:8123/admin/" in text
        assert Credentials(data).get("admin", "password") in text

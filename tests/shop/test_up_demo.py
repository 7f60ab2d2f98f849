"""The demo data of `manage.py up`, and its banner."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from api.models import ApiToken
from api.tokens import find_token
from inventory.models import Product
from inventory.queries import catalogue
from shop.up import banner
from shop.up.credentials import Credentials
from shop.up.demo import add_demo_data
from shop.up.programs import Project

pytestmark = pytest.mark.django_db


@pytest.fixture
def data(tmp_path: Path) -> Path:
    add_demo_data(Credentials(tmp_path))
    return tmp_path


class TestDemoData:
    def test_fills_the_catalogue(self, data: Path) -> None:
        skus = {product.sku for product in catalogue()}

        assert {line["sku"] for line in banner.ORDER["lines"]} <= skus

    def test_names_each_product_in_both_languages(self, data: Path) -> None:
        names = {(product.name_in("en"), product.name_in("ja")) for product in catalogue()}

        assert ("Sencha green tea, 100 g", "煎茶 100 g") in names
        assert all(english != japanese for english, japanese in names)

    def test_has_an_admin_who_can_sign_in(self, data: Path) -> None:
        admin = User.objects.get(username="admin")

        assert admin.is_superuser
        assert admin.is_staff
        assert admin.check_password(Credentials(data).get("admin", "password"))

    def test_gives_staff_and_two_customers_a_token(self, data: Path) -> None:
        credentials = Credentials(data)

        assert ApiToken.objects.count() == 3
        for name in ("alice", "hanako", "admin"):
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
        assert f"Authorization: Bearer {Credentials(data).get('alice', 'token')}" in words

    def test_shows_the_storefront_with_the_login_of_a_customer(self, data: Path) -> None:
        password = Credentials(data).get("alice", "password")

        lines = banner.text(port=8123, data=data).splitlines()

        assert f"  Shop        http://127.0.0.1:8123/   (user alice, password {password})" in lines

    def test_shows_the_admin_with_its_login(self, data: Path) -> None:
        text = banner.text(port=8123, data=data)

        assert "http://127.0.0.1:8123/admin/" in text
        assert Credentials(data).get("admin", "password") in text

    def test_has_lines_with_which_staff_ship_and_refund_the_newest_order(self, data: Path) -> None:
        lines = banner.text(port=8123, data=data).splitlines()
        for action, body in (("ship", banner.PARCEL), ("refunds", banner.REFUND)):
            words = next(shlex.split(line) for line in lines if f"/{action}/" in line)

            assert f"Authorization: Bearer {Credentials(data).get('admin', 'token')}" in words
            assert json.loads(words[words.index("-d") + 1]) == body

    def test_says_that_e_mails_are_files(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EMAIL_URL", raising=False)

        text = banner.text(port=8123, data=data)

        assert f"E-mails     written to files in {data}/mail; none is sent" in text

    def test_names_a_mail_server(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
    ) -> None:
        monkeypatch.setenv("EMAIL_URL", "smtp://mail.example.com:587")
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "mail.example.com", 587

        text = banner.text(port=8123, data=data)

        assert "sent by the mail server mail.example.com:587 of EMAIL_URL" in text


class TestTheLog:
    """388 of 518 lines were requests for static files."""

    @pytest.mark.parametrize(
        ("line", "is_shown"),
        [
            ("GET /static/admin/css/base.css 200 in 3 ms", False),
            ("GET /static/admin/css/base.css 304 in 3 ms", False),
            ("GET /static/missing.css 404 in 3 ms", True),
            ("GET /admin/jsi18n/ 200 in 3 ms", False),
            ("GET /livez 200 in 0 ms", False),
            ("GET /admin/orders/order/ 200 in 31 ms", True),
            ("POST /api/orders/ 201 in 9 ms", True),
        ],
    )
    def test_of_the_web_server_has_no_parts_of_pages(self, line: str, is_shown: bool) -> None:
        web = project().web(port=8123, descriptor=3)

        assert web.hidden
        assert bool(re.search(web.hidden, line)) is not is_shown

    @pytest.mark.parametrize(
        ("line", "is_shown"),
        [
            ("Task outbox.deliver[89cd-4f73] received", False),
            ("Task orders.cancel_overdue[89cd-4f73] succeeded in 0.1 s: None", False),
            ("Task orders.cancel_overdue[89cd-4f73] raised unexpected: KeyError()", True),
            ("Task tracking.poll[89cd-4f73] received", True),
            ("Scheduler: Sending due task orders.cancel_overdue (orders.cancel_overdue)", False),
            ("inventory.reserve_stock 01a21019 done in 29 ms", True),
        ],
    )
    def test_of_celery_has_no_periodic_tasks(self, line: str, is_shown: bool) -> None:
        for program in (project().worker(processes=1), project().beat()):
            assert program.hidden
            assert bool(re.search(program.hidden, line)) is not is_shown


def project() -> Project:
    return Project(
        root=Path(), environment={}, worker_grace=1.0, periodic_tasks=["orders.cancel_overdue"]
    )

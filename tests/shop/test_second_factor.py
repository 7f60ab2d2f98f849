"""The second factor of staff protects every page of the admin."""

from __future__ import annotations

import logging
import re
import time
from base64 import b32decode, b32encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import django_otp
import pytest
import segno
import time_machine
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.conf import settings as configured
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from rest_framework.test import APIClient

from api.tokens import add_token
from shop.second_factor import services
from tests.plugin import SECOND_FACTOR_MIDDLEWARE
from tests.shop.access import PUBLIC
from tests.shop.addresses import addresses
from tests.shop.rows import a_row_of_each
from tests.shop.test_every_address import name_of, shown
from tests.shop.test_settings import manage, setting

pytestmark = pytest.mark.django_db

ACCOUNT = "/admin/second-factor/"
VERIFY, ENROL = f"{ACCOUNT}verify/", f"{ACCOUNT}enrol/"
CODES, REMOVE = f"{ACCOUNT}recovery-codes/", f"{ACCOUNT}remove/"
KEY = "0123456789abcdef0123456789abcdef01234567"
STAFF_API = "/api/orders/"
CATALOGUE = Path(services.__file__).parent / "locale/ja/LC_MESSAGES/django.po"
DJANGOS_OWN = {"Log out"}
WIDE_ONE = "\uff11"


@pytest.fixture(autouse=True)
def required(settings: Any) -> None:
    """Enforce it, as SECOND_FACTOR=required does."""
    settings.SECOND_FACTOR = "required"
    middleware = list(settings.MIDDLEWARE)
    place = middleware.index("django_otp.middleware.OTPMiddleware") + 1
    settings.MIDDLEWARE = [*middleware[:place], SECOND_FACTOR_MIDDLEWARE, *middleware[place:]]


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    """Stand still, so that a code does not change while a test has it in hand."""
    with time_machine.travel(time.time(), tick=False) as clock:
        yield clock


@pytest.fixture
def ann() -> User:
    return User.objects.create_superuser("ann")


@pytest.fixture
def browser(ann: User) -> Client:
    """A session that has passed the password."""
    client = Client()
    client.force_login(ann)
    return client


@pytest.fixture
def recovery_codes(ann: User, clock: time_machine.Traveller) -> list[str]:
    """She has set it up, a minute ago."""
    clock.shift(-60)
    enrolment = services.enrol(user=ann, key=KEY, code=code_of(KEY), may_replace=False)
    clock.shift(60)
    return enrolment.codes


def code_of(key: str) -> str:
    """What an authenticator app shows now."""
    return f"{totp(bytes.fromhex(key)):06d}"


def wrong_code(key: str) -> str:
    return f"{(totp(bytes.fromhex(key)) + 500_000) % 1_000_000:06d}"


def secret_on(page: str) -> str:
    """The key that a page of enrolment shows, in hexadecimal digits."""
    shown = re.search(r"<code>([A-Z2-7 ]+)</code>", page)
    assert shown, page
    return b32decode(shown[1].replace(" ", "")).hex()


def enrolled(browser: Client) -> list[str]:
    """Set it up in the browser; return the recovery codes that are shown."""
    key = secret_on(browser.get(ENROL).content.decode())
    page = browser.post(ENROL, {"code": code_of(key)}).content.decode()
    return re.findall(r"<li><code>([a-z2-7]{8})</code>", page)


class TestStaffWithoutOne:
    def test_reach_only_the_enrolment_page(self, browser: Client):
        found = shown(browser, a_row_of_each())

        assert found == {*PUBLIC, "second_factor:enrol"} - {"admin:login", "storefront:sign_in"}

    def test_that_sign_in_to_the_storefront_come_to_it_and_back(self):
        staff = User.objects.create_user("bob", password="a long phrase 1", is_staff=True)
        form = {"username": staff.username, "password": "a long phrase 1", "next": "/orders/"}

        answer = Client().post("/account/sign-in/", form)

        assert answer["Location"] == f"{ENROL}?next=%2Forders%2F"

    def test_are_led_to_it_by_each_page_of_the_storefront_that_needs_a_sign_in(
        self, browser: Client
    ):
        answer = browser.get("/orders/", follow=True)

        assert answer.redirect_chain[-1] == (f"{ENROL}?next=%2Forders%2F", 302)
        assert answer.status_code == 200

    def test_can_change_nothing(self, browser: Client):
        rows = a_row_of_each()
        reached = {
            (method, name_of(one))
            for one in set(addresses())
            if one.route.startswith("/admin/")
            and one.name not in ("second_factor:enrol", "admin:logout")
            for method in ("post", "put", "patch", "delete")
            if browser.generic(method.upper(), one.url(rows)).status_code not in (302, 403, 405)
        }

        assert reached == set()

    def test_are_redirected_to_it_and_back(self, browser: Client):
        asked = "/admin/orders/order/?status=placed"

        answer = browser.get(asked)

        where = urlsplit(answer["Location"])
        assert where.path == ENROL
        assert parse_qs(where.query) == {"next": [asked]}

    def test_are_refused_by_the_api_with_the_reason(self, browser: Client):
        answer = browser.get(STAFF_API)

        assert answer.status_code == 403
        assert answer.json()["code"] == "second_factor_required"

    def test_see_public_pages(self, browser: Client):
        assert browser.get("/api/products/").status_code == 200

    def test_keep_their_api_tokens(self, ann: User):
        add_token(user=ann, label="", token="right")

        answer = APIClient().get(STAFF_API, headers={"Authorization": "Bearer right"})

        assert answer.status_code == 200

    def test_can_sign_out(self, browser: Client):
        assert browser.post("/admin/logout/").status_code == 200
        assert urlsplit(browser.get("/admin/")["Location"]).path == "/admin/login/"


class TestACustomer:
    def test_needs_none(self):
        client = Client()
        client.force_login(User.objects.create_user("alice"))

        assert client.get(STAFF_API).status_code == 200

    def test_cannot_set_one_up(self):
        client = Client()
        client.force_login(User.objects.create_user("alice"))

        assert urlsplit(client.get(ENROL)["Location"]).path == "/admin/login/"


class TestSettingItUp:
    def test_lets_the_session_in_and_shows_ten_recovery_codes(self, browser: Client, ann: User):
        codes = enrolled(browser)

        assert len(set(codes)) == 10
        assert services.recovery_codes_left(ann) == 10
        assert browser.get("/admin/").status_code == 200
        assert browser.get(STAFF_API).status_code == 200

    def test_shows_the_recovery_codes_once(self, browser: Client):
        codes = enrolled(browser)

        pages = [browser.get(url, follow=True).content.decode() for url in (ACCOUNT, ENROL)]

        assert [code for code in codes if any(code in page for page in pages)] == []

    def test_shows_the_secret_as_a_picture_without_inline_code(self, browser: Client):
        page = browser.get(ENROL).content.decode()

        assert "<svg" in page
        assert "style=" not in page
        assert "<style" not in page
        assert "data:" not in page

    def test_puts_the_secret_and_the_names_of_site_and_user_into_the_picture(self, browser: Client):
        page = browser.get(ENROL).content.decode()

        secret = b32encode(bytes.fromhex(secret_on(page))).decode()
        name = quote(f"Shop {configured.ALLOWED_HOSTS[0]}")
        address = (
            f"otpauth://totp/{name}%3Aann?secret={secret}&algorithm=SHA1&digits=6&period=30"
            f"&issuer={name}"
        )
        expected = segno.make(address, error="m", micro=False).svg_inline(border=4)
        assert re.findall(r' d="([^"]+)"', expected)[-1] in page

    def test_stores_nothing_before_the_first_valid_code(self, browser: Client, ann: User):
        key = secret_on(browser.get(ENROL).content.decode())

        for wrong in (wrong_code(key), "", "abc", "12345", "0" * 40, WIDE_ONE):
            page = browser.post(ENROL, {"code": wrong})
            assert page.status_code == 200, wrong

        assert not django_otp.user_has_device(ann, confirmed=None)
        assert urlsplit(browser.get("/admin/")["Location"]).path == ENROL

    def test_accepts_full_width_digits_and_blanks(self, browser: Client):
        key = secret_on(browser.get(ENROL).content.decode())
        code = code_of(key)
        wide = "".join(chr(ord(digit) + 0xFEE0) for digit in code)

        browser.post(ENROL, {"code": f"{wide[:3]} {wide[3:]}"})

        assert browser.get("/admin/").status_code == 200

    def test_shows_each_session_another_secret(self, browser: Client, ann: User):
        other = Client()
        other.force_login(ann)

        first, second = (secret_on(one.get(ENROL).content.decode()) for one in (browser, other))

        assert first != second

    def test_succeeds_for_the_first_session_with_a_valid_code(self, browser: Client, ann: User):
        other = Client()
        other.force_login(ann)
        key = secret_on(other.get(ENROL).content.decode())
        enrolled(browser)

        answer = other.post(ENROL, {"code": code_of(key)})

        assert urlsplit(answer["Location"]).path == VERIFY
        assert TOTPDevice.objects.filter(user=ann, key=key).count() == 0

    def test_replaces_nothing_for_a_session_that_was_not_verified(
        self, ann: User, recovery_codes: list[str]
    ):
        other = "f" * 40

        with pytest.raises(services.AlreadyEnrolled):
            services.enrol(user=ann, key=other, code=code_of(other), may_replace=False)

        assert TOTPDevice.objects.get(user=ann).key == KEY
        assert set(codes_of(ann)) == set(recovery_codes)

    def test_changes_the_key_of_the_session(self, browser: Client):
        before = browser.cookies["sessionid"].value

        enrolled(browser)

        assert browser.cookies["sessionid"].value != before


@pytest.mark.usefixtures("recovery_codes")
class TestASessionWithPasswordOnly:
    """The user has a second factor: whoever stole the password has not."""

    def test_is_asked_for_a_code(self, browser: Client):
        assert urlsplit(browser.get("/admin/orders/order/")["Location"]).path == VERIFY

    @pytest.mark.parametrize("url", [ENROL, ACCOUNT])
    def test_cannot_set_up_another_factor(self, browser: Client, ann: User, url: str):
        before = TOTPDevice.objects.get(user=ann).key

        answers = [browser.get(url), browser.post(ENROL, {"code": "123456"})]

        assert {urlsplit(one["Location"]).path for one in answers} == {VERIFY}
        assert TOTPDevice.objects.get(user=ann).key == before

    def test_cannot_see_new_recovery_codes_or_remove_it(self, browser: Client, ann: User):
        before = set(StaticDevice.objects.get(user=ann).token_set.values_list("token"))

        for url in (CODES, REMOVE):
            assert browser.post(url).status_code == 302

        assert set(StaticDevice.objects.get(user=ann).token_set.values_list("token")) == before
        assert django_otp.user_has_device(ann)

    def test_is_restricted_if_the_factor_is_optional(self, browser: Client, settings: Any):
        settings.SECOND_FACTOR = "optional"

        assert urlsplit(browser.get("/admin/")["Location"]).path == VERIFY
        assert browser.get(STAFF_API).json()["code"] == "second_factor_required"


@pytest.mark.usefixtures("recovery_codes")
class TestACode:
    def enter(self, browser: Client, code: str, *, then: str = "") -> Any:
        return browser.post(VERIFY, {"code": code}, query_params={"next": then} if then else {})

    def test_lets_the_session_in(self, browser: Client):
        answer = self.enter(browser, code_of(KEY), then="/admin/orders/order/")

        assert answer["Location"] == "/admin/orders/order/"
        assert browser.get("/admin/orders/order/").status_code == 200

    @pytest.mark.parametrize(
        "elsewhere", ["https://evil.example/", "//evil.example", "javascript:x"]
    )
    def test_redirects_to_this_site_only(self, browser: Client, elsewhere: str):
        assert self.enter(browser, code_of(KEY), then=elsewhere)["Location"] == "/admin/"

    def test_is_valid_for_one_session_only(self, browser: Client, ann: User):
        self.enter(browser, code_of(KEY))
        thief = Client()
        thief.force_login(ann)

        answer = self.enter(thief, code_of(KEY))

        assert answer.status_code == 200
        assert urlsplit(thief.get("/admin/")["Location"]).path == VERIFY

    def test_that_is_wrong_is_not_shown_again(self, browser: Client):
        page = self.enter(browser, "271828").content.decode()

        assert "This code is wrong" in page
        assert "271828" not in page

    def test_of_another_user_is_wrong(self, browser: Client):
        other = "f" * 40
        bob = User.objects.create_superuser("bob")
        services.enrol(user=bob, key=other, code=code_of(other), may_replace=False)

        assert self.enter(browser, code_of(other)).status_code == 200
        assert browser.get("/admin/").status_code == 302

    def test_that_is_wrong_doubles_the_delay(self, browser: Client, clock: time_machine.Traveller):
        waits = []
        for _ in range(5):
            assert self.enter(browser, wrong_code(KEY)).status_code == 200
            refused = self.enter(browser, code_of(KEY))
            assert refused.status_code == 429
            waits.append(int(refused["Retry-After"]))
            clock.shift(waits[-1] + 0.001)

        assert waits == [1, 2, 4, 8, 16]
        assert self.enter(browser, code_of(KEY)).status_code == 302

    @pytest.mark.parametrize("hostile", ["", "\x00", "x" * 10_000, "-1", WIDE_ONE * 6, "' OR 1=1"])
    def test_that_is_malformed_is_refused(self, browser: Client, hostile: str):
        assert self.enter(browser, hostile).status_code in (200, 400, 429)
        assert browser.get("/admin/").status_code == 302

    def test_is_not_logged(self, browser: Client, caplog: Any):
        with caplog.at_level(logging.DEBUG):
            self.enter(browser, "271828")

        lines = [record.getMessage() for record in caplog.records if "second" in record.name]
        assert [line for line in lines if "wrong code" in line]
        assert [line for line in lines if "271828" in line] == []

    def test_goes_on_to_no_page_by_its_name(self, browser: Client):
        assert self.enter(browser, code_of(KEY), then="orders")["Location"] == "orders"
        assert browser.get("/admin/").status_code == 200
        assert browser.get(VERIFY, {"next": "orders"})["Location"] == "orders"


class TestARecoveryCode:
    def test_is_valid_once(self, browser: Client, ann: User, recovery_codes: list[str]):
        first = browser.post(VERIFY, {"code": f" {recovery_codes[0].upper()} "})
        other = Client()
        other.force_login(ann)
        second = other.post(VERIFY, {"code": recovery_codes[0]})

        assert (first.status_code, second.status_code) == (302, 200)
        assert browser.get("/admin/").status_code == 200
        assert other.get("/admin/").status_code == 302
        assert services.recovery_codes_left(ann) == 9

    def test_that_is_wrong_delays_the_next_one(self, browser: Client, recovery_codes: list[str]):
        browser.post(VERIFY, {"code": "aaaaaaaa"})

        assert browser.post(VERIFY, {"code": recovery_codes[0]}).status_code == 429

    def test_is_invalid_after_renewal(self, browser: Client, ann: User, recovery_codes: list[str]):
        browser.post(VERIFY, {"code": recovery_codes[0]})

        page = browser.post(CODES).content.decode()

        new = re.findall(r"<li><code>([a-z2-7]{8})</code>", page)
        assert len(new) == 10
        assert set(new) & set(recovery_codes) == set()
        # The session stays in, although the code that let it in is gone.
        assert browser.get("/admin/").status_code == 200
        assert services.recovery_codes_left(ann) == 10


class TestAVerifiedSession:
    @pytest.fixture(autouse=True)
    def _verified(self, browser: Client, recovery_codes: list[str]) -> None:
        browser.post(VERIFY, {"code": code_of(KEY)})

    def test_replaces_the_device_and_unverifies_other_sessions(self, browser: Client, ann: User):
        other = Client()
        other.force_login(ann)
        other.post(VERIFY, {"code": next(iter(codes_of(ann)))})
        assert other.get("/admin/").status_code == 200

        enrolled(browser)

        assert TOTPDevice.objects.get(user=ann).key != KEY
        assert browser.get("/admin/").status_code == 200
        assert urlsplit(other.get("/admin/")["Location"]).path == VERIFY

    def test_cannot_remove_a_required_factor(self, browser: Client, ann: User):
        browser.post(REMOVE)

        assert django_otp.user_has_device(ann)

    def test_can_remove_an_optional_factor(self, browser: Client, ann: User, settings: Any):
        settings.SECOND_FACTOR = "optional"

        page = browser.post(REMOVE, follow=True).content.decode()

        assert "by its password alone" in page
        assert not django_otp.user_has_device(ann, confirmed=None)

    def test_is_verified_for_its_own_user_alone(self, browser: Client):
        session = browser.session
        bob = User.objects.create_superuser("bob")
        client = Client()
        client.force_login(bob)
        stolen = client.session
        stolen[django_otp.DEVICE_ID_SESSION_KEY] = session[django_otp.DEVICE_ID_SESSION_KEY]
        stolen.save()

        assert urlsplit(client.get("/admin/")["Location"]).path == ENROL


def codes_of(user: User) -> list[str]:
    return list(StaticDevice.objects.get(user=user).token_set.values_list("token", flat=True))


class TestTheAdmin:
    def test_shows_no_secrets_of_others(self):
        assert not {TOTPDevice, StaticDevice} & set(admin.site._registry)


class TestTheCommand:
    def test_removes_a_lost_device_and_unverifies_all_sessions(
        self, browser: Client, ann: User, recovery_codes: list[str], caplog: Any
    ):
        browser.post(VERIFY, {"code": code_of(KEY)})

        with caplog.at_level(logging.INFO):
            call_command("reset_second_factor", "ann")

        assert not django_otp.user_has_device(ann, confirmed=None)
        assert urlsplit(browser.get("/admin/")["Location"]).path == ENROL
        assert f"second factor of user:{ann.pk}: reset" in caplog.text

    @pytest.mark.parametrize(
        ("name", "why"), [("nobody", "There is no user 'nobody'."), ("ann", "nothing was changed")]
    )
    def test_reports_that_there_is_nothing_to_do(self, ann: User, name: str, why: str):
        with pytest.raises(CommandError, match=why):
            call_command("reset_second_factor", name)


class TestTheLog:
    def test_has_a_line_for_each_change(self, browser: Client, ann: User, caplog: Any):
        with caplog.at_level(logging.INFO, "shop.second_factor"):
            codes = enrolled(browser)
            browser.post(CODES)
            services.remove(user=ann, change="removed")

        logged_lines = [record.getMessage() for record in caplog.records if "second" in record.name]
        assert logged_lines == [
            f"second factor of user:{ann.pk}: {change}"
            for change in ("enrolled", "recovery codes renewed", "removed")
        ]
        assert [code for code in codes if code in caplog.text] == []


class TestJapanese:
    def test_is_shown_on_its_pages(self, browser: Client):
        page = browser.get(ENROL, headers={"Accept-Language": "ja"}).content.decode()

        assert "認証アプリ" in page
        assert "Scan this code" not in page

    def test_has_every_text(self):
        with CATALOGUE.open("rb") as file:
            messages = [one for one in read_po(file) if one.id and one.string and not one.fuzzy]
            translated = {plain(one.id)[0] for one in messages}

        assert len(texts()) > 20
        assert texts() - translated == set()

    def test_is_compiled(self):
        with CATALOGUE.open("rb") as po, CATALOGUE.with_suffix(".mo").open("rb") as mo:
            source = [(plain(one.id), plain(one.string)) for one in read_po(po) if one.id]
            compiled = [(plain(one.id), plain(one.string)) for one in read_mo(mo) if one.id]

        assert sorted(compiled) == sorted(source), (
            "Run: cd shop/second_factor && ../../manage.py compilemessages"
        )


def plain(text: Any) -> list[str]:
    """A text, or those of a plural, as a list."""
    return [text] if isinstance(text, str) else list(text)


def texts() -> set[str]:
    """What its code and its templates mark for translation."""
    found: set[str] = set()
    for path in CATALOGUE.parents[3].rglob("*.py"):
        found |= set(re.findall(r'\b_\(\s*"([^"]+)"', path.read_text()))
    for path in CATALOGUE.parents[3].rglob("*.html"):
        text = path.read_text()
        found |= set(re.findall(r'{% translate "([^"]+)"', text))
        found |= {
            re.sub(r"{{ (\w+) }}", r"%(\1)s", one)
            for one in re.findall(r"{% blocktranslate [^%]*%}([^{]*{{[^}]*}}[^{]*){% plural", text)
        }
    return found - DJANGOS_OWN


@pytest.mark.once
class TestTheSetting:
    def test_is_off_by_default_and_imports_nothing(self, tmp_path: Any):
        program = "import sys; print([m for m in sys.modules if 'otp' in m or 'segno' in m])"

        done = manage(tmp_path, "shell", "--no-imports", "--command", program)

        assert done.stdout.strip() == "[]", done.stderr
        assert setting(tmp_path, "SECOND_FACTOR") == "off"

    def test_works_without_the_extra(self, tmp_path: Any):
        done = manage(tmp_path, "check", PYTHONPATH=without_the_extra(tmp_path))

        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("value", ["optional", "required"])
    def test_names_the_extra_that_it_needs(self, tmp_path: Any, value: str):
        path = without_the_extra(tmp_path)

        done = manage(tmp_path, "check", SECOND_FACTOR=value, PYTHONPATH=path)

        assert done.returncode == 1
        assert "django-otp is not installed. Install the extra second-factor" in done.stderr

    def test_refuses_another_value(self, tmp_path: Any):
        done = manage(tmp_path, "check", SECOND_FACTOR="yes")

        assert done.returncode == 1
        assert done.stderr == "SECOND_FACTOR is 'yes'. Set it to off, optional or required.\n"

    def test_places_the_middleware_after_authentication(self, tmp_path: Any):
        middleware = setting(tmp_path, "MIDDLEWARE", SECOND_FACTOR="required")

        order = [
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_otp.middleware.OTPMiddleware",
            SECOND_FACTOR_MIDDLEWARE,
            "outbox.context.RequestContextMiddleware",
        ]
        assert re.findall("|".join(map(re.escape, order)), middleware) == order

    def test_passes_the_checks(self, tmp_path: Any):
        done = manage(tmp_path, "check", "--fail-level", "WARNING", SECOND_FACTOR="required")

        assert done.returncode == 0, done.stderr


def without_the_extra(folder: Any) -> str:
    """Return a PYTHONPATH on which neither django-otp nor segno can be found."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Hidden(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'django_otp', 'segno'}:\n"
        "            return None\n"
        "        return super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Hidden if one is PathFinder else one for one in sys.meta_path]\n"
    )
    return str(folder)

"""The switch of languages in the storefront and the admin."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client

from tests.shop.forms import Form, forms_of

pytestmark = pytest.mark.django_db

ENGLISH = {"Accept-Language": "en"}
COOKIE = settings.LANGUAGE_COOKIE_NAME
PAGES = ["/", "/account/sign-in/?next=/checkout/", "/admin/", "/admin/outbox/event/?app=orders"]


def switch_of(page: str, url: str) -> Form:
    (form,) = (one for one in forms_of(page, url) if one.url == "/language/")
    return form


def choose(client: Client, url: str) -> str:
    """Send the form of a page that is shown in the other language; return its target."""
    form = switch_of(client.get(url, headers=ENGLISH).content.decode(), url)
    answer = client.post(form.url, {name: values[0] for name, values in form.fields.items()})
    assert answer.status_code == 302
    return str(answer["Location"])


class TestTheSwitch:
    @pytest.mark.parametrize("url", PAGES)
    def test_shows_the_same_page_in_the_other_language(self, admin_client: Client, url: str):
        assert choose(admin_client, url) == url

        page = admin_client.get(url, headers=ENGLISH).content.decode()

        assert '<html lang="ja"' in page
        assert switch_of(page, url).fields["language"] == ["en"]

    def test_is_on_the_login_of_staff(self, client: Client):
        url = "/admin/login/?next=/admin/outbox/event/"

        assert choose(client, url) == url

        assert '<html lang="ja"' in client.get(url, headers=ENGLISH).content.decode()

    def test_names_the_present_language_as_present(self, client: Client):
        page = client.get("/", headers=ENGLISH).content.decode()

        assert '<span lang="en" aria-current="true">English</span>' in page
        assert '<button name="language" value="ja" lang="ja">日本語</button>' in page

    def test_is_kept_for_a_year_in_a_cookie_that_no_script_reads(self, client: Client):
        choose(client, "/")

        cookie = client.cookies[COOKIE]
        assert cookie["max-age"] == 365 * 24 * 3600
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"

    def test_is_part_of_a_page_that_a_link_leads_to(self, client: Client):
        """The answer to a form has what was entered. The switch would lose it."""
        answer = client.post("/account/sign-in/", {"username": "nobody"}, headers=ENGLISH)

        assert answer.status_code == 200
        assert "language-switch" not in answer.content.decode()

    @pytest.mark.parametrize("url", ["https://example.com/", "//example.com/", "javascript:0"])
    def test_leads_to_no_other_site(self, client: Client, url: str):
        answer = client.post("/language/", {"language": "ja", "next": url})

        assert answer["Location"] == "/"

    @pytest.mark.parametrize("language", ["xx", "", "fr"])
    def test_offers_no_language_without_texts(self, client: Client, language: str):
        client.post("/language/", {"language": language})

        assert '<html lang="en"' in client.get("/").content.decode()

    def test_needs_the_token_of_a_page(self):
        answer = Client(enforce_csrf_checks=True).post("/language/", {"language": "ja"})

        assert answer.status_code == 403
        assert COOKIE not in answer.cookies

    def test_changes_nothing_by_a_link(self, client: Client):
        client.get("/language/?language=ja")

        assert COOKIE not in client.cookies

"""Pages of errors have the look of the shop, and say what to do next."""

from __future__ import annotations

from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.utils.functional import SimpleLazyObject

from outbox import RequestContextMiddleware
from shop import urls
from shop.error_handlers import server_error
from shop.urls import handler400, handler403, handler404, handler500  # noqa: F401  Django reads them
from tests.storefront.factories import basket_of, customer, product, put_into_basket, signed_in
from tests.translations.visible import english_words, texts_of

BRAND = "Tea shop"
JAPANESE = {"Accept-Language": "ja"}


def forbid(request: HttpRequest) -> NoReturn:
    raise PermissionDenied


def fail(request: HttpRequest) -> NoReturn:
    raise ZeroDivisionError


urlpatterns = [
    path("forbidden/", forbid),
    path("broken/", fail),
    path("api/forbidden/", forbid),
    path("api/broken/", fail),
    *urls.urlpatterns,
]

#: By status: an address with that error, and the page's heading.
ERRORS = {
    400: ("/?q=%00", "Bad request"),
    403: ("/forbidden/", "Not allowed"),
    404: ("/nowhere/", "Page not found"),
    500: ("/broken/", "Something went wrong"),
}


@pytest.fixture(autouse=True)
def addresses_with_errors(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def browser() -> Client:
    return Client(raise_request_exception=False)


@pytest.mark.django_db
@pytest.mark.once
class TestAnError:
    @pytest.mark.parametrize("status", ERRORS)
    def test_has_the_look_of_the_shop_and_a_way_on(self, browser, status):
        url, heading = ERRORS[status]

        answer = browser.get(url)

        page = answer.content.decode()
        assert answer.status_code == status
        assert BRAND in page
        assert f"<h1>{heading}</h1>" in page
        assert '<a class="button" href="/">' in page

    @pytest.mark.parametrize("status", ERRORS)
    def test_is_in_japanese(self, browser, status):
        page = browser.get(ERRORS[status][0], headers=JAPANESE).content.decode()

        assert '<html lang="ja"' in page
        assert [word for text in texts_of(page) for word in english_words(text)] == []

    def test_names_the_request_for_support(self, browser):
        answer = browser.get("/broken/")

        assert answer.headers["X-Correlation-ID"] in answer.content.decode()

    def test_keeps_the_customer_signed_in_and_the_basket(self, browser):
        put_into_basket(browser, product())
        browser.force_login(customer())

        page = browser.get("/nowhere/").content.decode()

        assert "alice" in page
        assert basket_of(browser) == {"TEA": 1}

    def test_of_an_order_of_somebody_else_is_that_of_an_unknown_address(self, browser):
        browser.force_login(customer())

        assert "Page not found" in browser.get(f"/orders/{uuid4()}/").content.decode()

    @pytest.mark.parametrize("url", ["/admin/nowhere/", "/admin/?q=%00"])
    def test_of_the_admin_is_not_of_the_shop(self, admin_client, url):
        answer = admin_client.get(url)

        assert answer.status_code in {400, 404}
        assert BRAND not in answer.content.decode()

    @pytest.mark.parametrize(
        ("url", "status"), [("nowhere/", 404), ("forbidden/", 403), ("broken/", 500)]
    )
    def test_of_the_api_is_a_problem(self, browser, url, status):
        answer = browser.get(f"/api/{url}")

        assert answer.json()["status"] == answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"


class TestAnInternalError:
    def test_reads_no_database(self):
        """This test may use none. A page that shows who is signed in would read the user."""
        request = RequestFactory().get("/")
        request.user = SimpleLazyObject(User.objects.get)  # type: ignore[assignment]  # stands for it

        answer = server_error(request)

        assert isinstance(answer, HttpResponse)
        assert BRAND in answer.content.decode()

    def test_reads_no_user_for_the_number_of_the_request(self):
        request = RequestFactory().get("/")
        request.user = SimpleLazyObject(User.objects.get)  # type: ignore[assignment]  # stands for it

        answer = RequestContextMiddleware(server_error)(request)  # type: ignore[arg-type]  # a page

        assert answer.headers["X-Correlation-ID"] in answer.content.decode()

    def test_outside_of_a_request_names_none(self):
        """An invented number would be in no log."""
        answer = server_error(RequestFactory().get("/"))

        assert isinstance(answer, HttpResponse)
        assert "give this number" not in answer.content.decode()

    @pytest.mark.django_db
    @pytest.mark.once
    def test_without_its_static_files_is_the_plain_page(self, browser, settings):
        settings.STORAGES = {
            **settings.STORAGES,
            "staticfiles": {
                "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
            },
        }

        answer = browser.get("/broken/")

        assert answer.status_code == 500
        assert "Server Error (500)" in answer.content.decode()


@pytest.mark.django_db
@pytest.mark.once
class TestAnAddressThatOnlyTakesAForm:
    @pytest.mark.parametrize(
        "url",
        [
            "/basket/change/",
            "/account/sign-out/",
            f"/orders/{UUID(int=1)}/cancel/",
            f"/orders/{UUID(int=1)}/again/",
        ],
    )
    def test_shows_a_page_with_a_way_on(self, browser, url):
        answer = browser.get(url)

        page = answer.content.decode()
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert "<h1>This address cannot be opened directly</h1>" in page
        assert '<a class="button" href="/">' in page

    def test_shows_it_in_japanese(self, browser):
        page = browser.get("/basket/change/", headers=JAPANESE).content.decode()

        assert [word for text in texts_of(page) for word in english_words(text)] == []


@pytest.mark.django_db
@pytest.mark.once
class TestARequestForAnotherHost:
    def test_does_not_get_the_page_of_the_shop(self, browser):
        answer = browser.get("/", headers={"Host": "evil.example.com"})

        assert answer.status_code == 400
        assert BRAND not in answer.content.decode()


@pytest.mark.django_db
@pytest.mark.once
class TestAFormWithoutItsToken:
    @pytest.fixture
    def strict(self) -> Client:
        return Client(enforce_csrf_checks=True)

    def test_is_refused_with_the_next_step(self, strict):
        answer = strict.post(
            "/checkout/",
            {"line": "TEA 1"},
            headers={"Referer": "http://testserver/checkout/"},
        )

        page = answer.content.decode()
        assert answer.status_code == 403
        assert BRAND in page
        assert "<h1>Please open the page again</h1>" in page
        assert '<a class="button" href="http://testserver/checkout/">' in page

    def test_leads_to_no_other_site(self, strict):
        answer = strict.post("/checkout/", headers={"Referer": "https://example.com/"})

        assert "example.com" not in answer.content.decode()

    def test_leaves_the_basket_as_it_is(self, strict):
        client = signed_in(customer())
        put_into_basket(client, product())
        strict.cookies = client.cookies

        strict.post("/basket/change/", {"sku": "TEA", "quantity": "0"})

        assert basket_of(strict) == {"TEA": 1}

    def test_is_refused_in_japanese(self, strict):
        page = strict.post("/checkout/", headers=JAPANESE).content.decode()

        assert [word for text in texts_of(page) for word in english_words(text)] == []

    def test_is_refused_by_the_admin_with_its_own_page(self, strict):
        answer = strict.post("/admin/login/")

        assert answer.status_code == 403
        assert BRAND not in answer.content.decode()

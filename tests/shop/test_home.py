"""The start page of the site."""

from __future__ import annotations

import re

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

pytestmark = pytest.mark.django_db


class TestTheStartPage:
    def test_links_to_existing_pages(self, client: Client) -> None:
        page = client.get("/").content.decode()

        links = re.findall(r'<a [^>]*href="(/[^"]*)"', page)
        statuses = {link: client.get(link, follow=True).status_code for link in links}

        pages = ["/", "/basket/", "/account/sign-in/", "/api/docs/", "/admin/"]
        assert statuses == dict.fromkeys(pages, 200)

    def test_loads_no_foreign_files(self, client: Client) -> None:
        answer = client.get("/")

        page = answer.content.decode()
        files = re.findall(r'<(?:link|script) [^>]*(?:href|src)="/static/([^"]+)"', page)
        assert len(files) == 3
        assert all(finders.find(file) for file in files)
        assert "<style" not in page
        assert "<script>" not in page
        assert "default-src 'self'" in answer["Content-Security-Policy"]

    def test_refuses_modifying_methods(self, client: Client) -> None:
        assert client.post("/").status_code == 405


class TestTheContentSecurityPolicy:
    """The same header from django-csp and, from Django 6.0 on, from Django itself."""

    def test_allows_inline_pictures_only_to_the_page_of_the_api(self, client: Client) -> None:
        home, docs = (
            client.get(url)["Content-Security-Policy"].split("; ") for url in ("/", "/api/docs/")
        )

        assert set(home) == {
            "default-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "object-src 'none'",
        }
        assert set(docs) == {*home, "img-src 'self' data:"}

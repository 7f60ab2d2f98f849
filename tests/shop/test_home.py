"""The front door, at the site's own address."""

from __future__ import annotations

import re

import pytest
from django.contrib.staticfiles import finders
from django.test import Client


class TestTheFrontDoor:
    def test_asks_no_database(self, client: Client) -> None:
        # Without the mark django_db, a query would fail this test.
        answer = client.get("/")

        assert answer.status_code == 200
        assert "Customers place orders" in answer.content.decode()

    @pytest.mark.django_db
    def test_leads_to_pages_that_are_there(self, client: Client) -> None:
        page = client.get("/").content.decode()

        links = re.findall(r'<a href="([^"]+)"', page)
        statuses = {link: client.get(link, follow=True).status_code for link in links}

        assert statuses == dict.fromkeys(["/api/docs/", "/api/schema/", "/admin/", "/readyz"], 200)

    def test_needs_no_file_that_is_not_ours(self, client: Client) -> None:
        answer = client.get("/")

        page = answer.content.decode()
        files = re.findall(r'<link [^>]*href="/static/([^"]+)"', page)
        assert len(files) == 2
        assert all(finders.find(file) for file in files)
        assert "<style" not in page
        assert "<script" not in page
        assert "default-src 'self'" in answer["Content-Security-Policy"]

    def test_takes_no_changes(self, client: Client) -> None:
        assert client.post("/").status_code == 405

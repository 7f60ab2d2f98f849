"""The monitor's own pages follow the admin of the installed Django."""

from __future__ import annotations

import re
from copy import deepcopy

import django
import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from tests.outbox.parcels import EVENTS

pytestmark = pytest.mark.django_db

OVERVIEW = reverse("admin:outbox_minute_changelist")


class TestAPageOfTheMonitor:
    def test_has_the_breadcrumbs_of_a_list(self, admin_client: Client):
        """From Django 6.1 on they are an ordered list, which its stylesheet expects."""
        pages = [admin_client.get(url).content.decode() for url in (EVENTS, OVERVIEW)]

        of_the_list, of_the_page = (
            re.findall(r'<(\w+) class="breadcrumbs">\s*(<li>)?<a', page) for page in pages
        )

        assert len(of_the_list) == 1
        assert of_the_page == of_the_list

    @pytest.mark.skipif(django.VERSION < (6, 1), reason="Earlier admins have no nonces.")
    def test_loads_files_with_the_nonce_of_its_policy(
        self, admin_client: Client, settings: Settings
    ):
        from django.utils.csp import CSP

        settings.SECURE_CSP = {"script-src": [CSP.NONCE], "style-src": [CSP.NONCE]}
        settings.MIDDLEWARE = [
            "django.middleware.csp.ContentSecurityPolicyMiddleware",
            *settings.MIDDLEWARE,
        ]
        templates = deepcopy(settings.TEMPLATES)
        templates[0]["OPTIONS"]["context_processors"].append(
            "django.template.context_processors.csp"
        )
        settings.TEMPLATES = templates

        answer = admin_client.get(OVERVIEW)

        (nonce,) = set(re.findall(r"'nonce-([^']+)'", answer["Content-Security-Policy"]))
        page = answer.content.decode()
        files = re.findall(r'<(?:script|link)\b[^>]*(?:src|rel="stylesheet")[^>]*>', page)
        assert any("outbox/" in one for one in files)
        assert [one for one in files if f'nonce="{nonce}"' not in one] == []

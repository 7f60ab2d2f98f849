"""The admin site, and the admins of third-party apps on it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from outbox.admin import StrictAdminMixin
from shop.admin_site import StrictAdminSite
from tests.shop.forms import forms_of
from tests.shop.rows import a_row_of_each

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_celery_beat/periodictask/"
CRONTABS = "/admin/django_celery_beat/crontabschedule/"


class TestTheSite:
    def test_makes_each_admin_strict(self):
        admins = admin.site._registry.values()

        assert [one for one in admins if not isinstance(one, StrictAdminMixin)] == []

    @pytest.mark.parametrize("options", [{}, {"list_per_page": 7}])
    def test_makes_a_new_admin_strict_and_keeps_its_class(self, options: dict[str, Any]):
        class GroupAdmin(admin.ModelAdmin):
            list_per_page = 7

        site = StrictAdminSite(name="new")
        site.register(Group, None if options else GroupAdmin, **options)

        registered = site._registry[Group]
        assert isinstance(registered, StrictAdminMixin)
        assert registered.list_per_page == 7


class TestTheIndex:
    def test_has_the_overview_as_its_first_entry(self, admin_client: Client):
        apps = admin_client.get("/admin/").context["app_list"]

        assert apps[0]["app_label"] == "outbox"
        assert apps[0]["models"][0]["admin_url"] == "/admin/outbox/minute/"

    def test_has_a_health_light_with_colour_shape_and_word(self, admin_client: Client):
        page = admin_client.get("/admin/").content.decode()

        light = page[page.index('href="/admin/outbox/minute/"') :][:300]
        assert 'outbox-badge outbox-dead"' in light  # no relay runs
        assert 'aria-hidden="true">✕</span>' in light
        assert re.search(r"\d parts? do(es)? not work</span>", light)

    def test_has_a_green_light_if_all_parts_run(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("outbox.monitor.light.health_of_parts", lambda **_: [])

        page = admin_client.get("/admin/").content.decode()

        assert 'outbox-badge outbox-complete"' in page
        assert "</span> healthy</span>" in page

    def test_has_the_overview_first_in_the_sidebar_of_each_page(self, admin_client: Client):
        sidebar = admin_client.get("/admin/orders/order/").context["available_apps"]

        assert sidebar[0]["models"][0]["admin_url"] == "/admin/outbox/minute/"

    def test_has_no_light_without_the_permission_to_view_the_overview(self, client: Client):
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.user_permissions.add(Permission.objects.get(codename="view_order"))
        client.force_login(clerk)

        page = client.get("/admin/").content.decode()

        assert "outbox-badge" not in page
        assert page.count('class="outbox-find"') == 1


class TestTheLogin:
    @pytest.mark.parametrize(("length", "attempts"), [(150, 1), (151, 0), (5000, 0)])
    def test_refuses_names_that_are_too_long(self, client: Client, length: int, attempts: int):
        answer = client.post("/admin/login/", {"username": "x" * length, "password": "wrong"})

        assert answer.status_code == 200
        assert AccessAttempt.objects.count() == attempts


class TestAPeriodicTask:
    def given(self, client: Client, **changes: str) -> Any:
        url = f"{TASKS}{a_row_of_each()[PeriodicTask].pk}/change/"
        forms = forms_of(client.get(url).content.decode(), url)
        fields = next(form.fields for form in forms if form.url == url and form.method == "POST")
        return client.post(url, fields | changes)

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("args", "[" * 12_000, "nested too deep"),
            ("args", "{}", "Enter a JSON value such as []"),
            ("kwargs", '{"a":' * 12_000, "nested too deep"),
            ("kwargs", "[]", "Enter a JSON value such as {}"),
            ("headers", "[]", "Enter a JSON value such as {}"),
            ("headers", "{", "This is not valid JSON"),
            ("task", "x" * 201, "Need name of task"),
        ],
    )
    def test_is_refused_with_values_that_beat_cannot_read(self, admin_client, field, value, said):
        answer = self.given(admin_client, **{field: value})

        assert said in " ".join(answer.context["adminform"].form.errors[field])

    def test_needs_no_headers(self, admin_client):
        answer = self.given(admin_client, headers="")

        assert answer.status_code == 302
        assert PeriodicTask.objects.get().headers == "{}"

    def test_is_not_run_by_a_request(self, admin_client):
        """No request of the site talks to the broker."""
        a_row_of_each()

        assert "run_tasks" not in admin_client.get(TASKS).content.decode()


class TestACrontab:
    def test_with_invalid_values_is_shown_again(self, admin_client):
        url = f"{CRONTABS}{a_row_of_each()[CrontabSchedule].pk}/change/"
        forms = forms_of(admin_client.get(url).content.decode(), url)
        fields = next(form.fields for form in forms if form.url == url and form.method == "POST")

        answer = admin_client.post(url, fields | {"minute": "-1"})

        assert answer.status_code == 200
        assert "minute" in answer.context["adminform"].form.errors

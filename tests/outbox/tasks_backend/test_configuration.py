"""The queues of TASKS: each has a handler with the options of its backend and its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox import PermanentFailure, Retry
from outbox.models import Subscription
from outbox.subscriptions import find
from outbox.tasks_backend.configuration import queues_of

ROOT = Path(__file__).resolve().parents[3]


def options(**params: Any) -> dict[str, dict[str, Any]]:
    return {one.name: dict(one.options) for one in queues_of("default", params)}


class TestAQueue:
    def test_has_options_for_functions_that_call_external_systems(self):
        found = options()["default"]

        assert (found["atomic"], found["batch"], found["queue"]) == (False, 1, "default")
        assert found["time_limit"] == pytest.approx(300)
        assert found["time_limit"] < found["lease"]

    def test_has_the_options_of_its_backend_and_its_own(self):
        found = options(
            QUEUES=["default", "mail"],
            OPTIONS={"attempts": 9, "queues": {"mail": {"attempts": 3, "time_limit": 18}}},
        )

        assert found["default"]["attempts"] == 9
        assert (found["mail"]["attempts"], found["mail"]["lease"]) == (3, 20)

    @pytest.mark.django_db
    def test_has_a_handler_and_a_celery_queue_of_its_own(self, configure: Any):
        configure("default", "mail", queues={"mail": {"rules": {PermanentFailure: Retry()}}})

        rows = Subscription.objects.order_by("handler").values_list("handler", "event", "queue")

        assert list(rows) == [
            ("tasks.default.default", "outbox.TaskEnqueued.default.default", "default"),
            ("tasks.default.mail", "outbox.TaskEnqueued.default.mail", "mail"),
        ]
        handler = find("tasks.default.mail")
        assert handler is not None
        assert handler.rules == {PermanentFailure: Retry()}


class TestAnError:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"QUEUES": []}, r'TASKS\["default"\]\["QUEUES"\] is empty'),
            ({"QUEUES": ["a, b"]}, "the queue 'a, b' must consist of letters"),
            ({"QUEUES": ["*"]}, r"the queue '\*' must consist of letters"),
            ({"QUEUES": ["x" * 99]}, "106 characters together"),
            (
                {"OPTIONS": {"attempt": 1}},
                r'"OPTIONS"\] has no option \'attempt\'. The options are',
            ),
            ({"OPTIONS": {"queues": {"post": {}}}}, "names 'post', which is not in QUEUES"),
            (
                {"OPTIONS": {"queues": {"default": {"ordered": True}}}},
                r'\["queues"\]\["default"\] has no option \'ordered\'',
            ),
        ],
    )
    def test_names_the_setting_and_the_next_step(self, params: dict[str, Any], message: str):
        with pytest.raises(ImproperlyConfigured, match=message):
            options(**params)

    @pytest.mark.django_db
    def test_of_a_value_names_the_option(self, configure: Any):
        with pytest.raises(ImproperlyConfigured, match=r'TASKS\["default"\].* attempts=0 must be'):
            configure(attempts=0)


class TestAProjectWithoutTasks:
    @pytest.mark.parametrize("setting", ["", "TASKS = {}"])
    def test_imports_neither_library(self, setting: str, tmp_path: Path):
        (tmp_path / "plain.py").write_text(
            dedent(f"""
            SECRET_KEY = "x"
            INSTALLED_APPS = ["outbox"]
            DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}}}}
            {setting}
            """)
        )
        code = (
            "import sys, django; django.setup()\n"
            "libraries = ('django.tasks', 'django_tasks')\n"
            "print([one for one in sys.modules if one.startswith(libraries)])"
        )

        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"DJANGO_SETTINGS_MODULE": "plain", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
            capture_output=True,
            text=True,
            check=True,
        )

        assert done.stdout.splitlines()[-1] == "[]"

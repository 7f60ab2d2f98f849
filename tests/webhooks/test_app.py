"""The app webhooks can be removed from the settings by one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from django.conf import settings

WITHOUT = """
from shop.settings import *
INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "webhooks"]
"""


def without_it(folder: Path, *arguments: str) -> str:
    (folder / "without_webhooks.py").write_text(WITHOUT)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "without_webhooks",
            "PYTHONPATH": f"{folder}:{settings.BASE_DIR}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class TestAProjectWithoutTheApp:
    def test_passes_its_checks(self, tmp_path):
        said = without_it(tmp_path, "manage.py", "check", "--fail-level", "WARNING")

        assert "no issues" in said

    def test_has_none_of_its_urls_and_handlers(self, tmp_path):
        program = (
            "import django; django.setup()\n"
            "from django.urls import reverse; from outbox.subscriptions import queues\n"
            "print(reverse('orders:orders'), 'webhooks' in queues())"
        )

        assert without_it(tmp_path, "-c", program).split() == ["/api/orders/", "False"]

    def test_imports_it_nowhere(self):
        apps = ("outbox", "api", "orders", "inventory", "payments", "notifications")
        sources = [path for app in apps for path in (settings.BASE_DIR / app).rglob("*.py")]

        assert not [
            path
            for path in sources
            if re.search(r"^(from|import) webhooks", path.read_text(), re.M)
        ]

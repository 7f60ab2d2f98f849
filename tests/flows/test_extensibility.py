"""A new app needs a folder and one line in INSTALLED_APPS."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.bank import API_KEY, BankProcess
from tests.databases import fresh_database

ROOT = Path(__file__).resolve().parents[2]

TRACKING = {
    "__init__.py": "",
    "migrations/__init__.py": "",
    "apps.py": """
from django.apps import AppConfig

class TrackingConfig(AppConfig):
    name = "tracking"
""",
    "models.py": """
from django.db import models

class Shipment(models.Model):
    order_id = models.UUIDField(unique=True)
""",
    "handlers.py": """
from uuid import UUID

from outbox import subscribe
from tracking.models import Shipment

@subscribe("orders.OrderReadyToShip")
def open_shipment(order_id: UUID) -> None:
    Shipment.objects.create(order_id=order_id)
""",
}

PLACE_AND_DELIVER = """
from outbox.testing import Outbox
from tests.inventory.factories import put_on_sale
from tests.orders.factories import place
from tracking.models import Shipment

put_on_sale()
order = place()
Outbox().deliver_all()
print("handled" if Shipment.objects.get().order_id == order.id else "handled another order")
"""


class Project:
    """A copy of this project, with its own database, as a team would have it.

    Without the app, should this team have added it already: the quick start shows it.
    """

    def __init__(self, folder: Path, *, database: str, bank: BankProcess) -> None:
        self.folder = folder
        shutil.copytree(
            ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "tracking")
        )
        self.settings.write_text(self.settings.read_text().replace('    "tracking",\n', ""))
        self._environment = {
            **os.environ,
            "DATABASE_URL": database,
            "SHOP_LOCAL_DIR": str(folder / ".local"),
            "BANK_URL": bank.url,
            "BANK_API_KEY": API_KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def hashes(self) -> dict[str, str]:
        """A hash of every file but those of the app `tracking`."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        names = {path.relative_to(self.folder): path for path in files}
        return {
            str(name): sha256(path.read_bytes()).hexdigest()
            for name, path in names.items()
            if name.parts[0] not in {"tracking", ".local"}
        }

    @property
    def settings(self) -> Path:
        return self.folder / "shop/settings/apps.py"


@pytest.fixture
def project(tmp_path: Path, bank: BankProcess):
    with fresh_database() as database:
        yield Project(tmp_path / "project", database=database, bank=bank)


def add_tracking(project: Project) -> None:
    for name, text in TRACKING.items():
        file = project.folder / "tracking" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    settings = project.settings.read_text()
    line = '    "notifications",\n'
    assert settings.count(line) == 1
    project.settings.write_text(settings.replace(line, line + '    "tracking",\n'))


@pytest.mark.timeout(600)
class TestANewApp:
    def test_subscribes_to_events_without_changes_elsewhere(self, project: Project):
        before, settings = project.hashes(), project.settings.read_text()

        add_tracking(project)
        project.manage("check", "--fail-level", "WARNING")
        project.manage("makemigrations", "tracking")
        project.manage("migrate")
        printed = project.manage("shell", "--no-imports", "-c", PLACE_AND_DELIVER)

        assert printed.split()[-1] == "handled"
        after = project.hashes()
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed == {"shop/settings/apps.py"}
        assert added_lines(settings, project.settings.read_text()) == ['+    "tracking",']


def added_lines(before: str, after: str) -> list[str]:
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return [line for line in diff if not line.startswith(("---", "+++", "@@"))]

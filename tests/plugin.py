"""Gives the suite a world of its own before Django reads its settings (loaded by `-p`).

No test sees this machine's settings, database, broker or run file: a suite beside a running
`make up` must not touch it.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from xdist.scheduler import LoadScopeScheduling

from shop.postgres import PostgresUnavailable
from tests.databases import kind_under_test, postgresql_url

ROOT = Path(__file__).resolve().parent.parent
OUTBOX_TESTS = ROOT / "tests" / "outbox"
SHOP_SETTINGS = "shop.settings"
OUTBOX_SETTINGS = "tests.outbox.project.settings"

#: What enforces it; tests/shop/test_second_factor.py puts it back.
SECOND_FACTOR_MIDDLEWARE = "shop.second_factor.middleware.SecondFactorMiddleware"
#: The default hasher takes a tenth of a second, on purpose. Programs that a test starts use it.
QUICK_HASHER = "django.contrib.auth.hashers.MD5PasswordHasher"

# What a developer may have exported for the running shop; see shop/settings/.
NOT_FOR_TESTS = (
    "ALLOWED_HOSTS",
    "AMQP_URL",
    "API_RATE_ANONYMOUS",
    "API_RATE_USER",
    "API_RATE_WEBHOOKS",
    "API_RATE_WRONG_TOKENS",
    "BANK_API_KEY",
    "BANK_URL",
    "BEHIND_PROXY",
    "DEBUG",
    "EMAIL_LIMIT",
    "EMAIL_LIMIT_ESSENTIAL",
    "EMAIL_LIMIT_HOURS",
    "EMAIL_URL",
    "HTTPS",
    "METRICS_TOKEN",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "TRACE_URL",
    "REDIS_URL",
    "SECOND_FACTOR",
    "REQUEST_SECONDS",
    "SECRET_KEY",
    "SECRET_KEY_FALLBACKS",
    "SITE_ORIGIN",
    "SESSION_HOURS",
    "SESSION_IDLE_MINUTES",
    "SHOP_CURRENCY",
    "SQS_QUEUES",
    "SQS_QUEUE_URL",
    "SQS_REGION",
    "SQS_URL",
    "SQS_VISIBILITY_SECONDS",
    "TRUSTED_PROXIES",
    "WEB_CONCURRENCY",
    "WEBHOOK_PRIVATE_HOSTS",
    "WEBHOOK_TIMEOUT_SECONDS",
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config,
) -> Generator[None, None, None]:
    handle_ignored_signals()
    # A worker of xdist inherits the world of its controller.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["DJANGO_SETTINGS_MODULE"] = _settings_for(
            early_config.known_args_namespace.file_or_dir
        )
        _use_database(kind_under_test())
        for name in NOT_FOR_TESTS:
            os.environ.pop(name, None)
        os.environ["SHOP_LOCAL_DIR"] = tempfile.mkdtemp(prefix="shop-tests-")
        atexit.register(shutil.rmtree, os.environ["SHOP_LOCAL_DIR"], ignore_errors=True)
    # The apps of the second factor must be installed when the test database is made. Apart from
    # that it is off, as by default: in the programs that a test starts, and in this process.
    os.environ["SECOND_FACTOR"] = "optional"
    try:
        result = yield
    finally:
        del os.environ["SECOND_FACTOR"]
    if SECOND_FACTOR_MIDDLEWARE in settings.MIDDLEWARE:
        settings.MIDDLEWARE.remove(SECOND_FACTOR_MIDDLEWARE)
    settings.PASSWORD_HASHERS = [QUICK_HASHER]
    return result


def _settings_for(arguments: Sequence[str]) -> str:
    """Return the settings module of the tests in these files, folders and node ids."""
    paths = [Path(one.partition("::")[0]).resolve() for one in arguments]
    of_outbox = [path for path in paths if path.is_relative_to(OUTBOX_TESTS)]
    if of_outbox and len(of_outbox) < len(paths):
        raise pytest.UsageError(
            "The tests of the outbox have settings of their own. Run tests/outbox and the other "
            "tests one after the other."
        )
    return OUTBOX_SETTINGS if of_outbox else SHOP_SETTINGS


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests of the outbox where the shop's settings are used, as for `pytest`."""
    is_of_shop = os.environ["DJANGO_SETTINGS_MODULE"] == SHOP_SETTINGS
    return True if is_of_shop and collection_path == OUTBOX_TESTS else None


def handle_ignored_signals() -> None:
    """Replace an ignored SIGINT or SIGHUP, as under `nohup`, by a handler that does nothing.

    A child process inherits an ignored signal. A handled one has its default action there.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _use_database(kind: str) -> None:
    try:
        os.environ["DATABASE_URL"] = postgresql_url() if kind == "postgresql" else ""
    except PostgresUnavailable as error:
        raise pytest.UsageError(str(error)) from error
    if kind == "sqlite":
        del os.environ["DATABASE_URL"]  # the settings' own default, in the folder of the tests


def pytest_configure(config: pytest.Config) -> None:
    """Turn the warnings of our own code into errors, those of a new app too."""
    ours = [path.stem for path in ROOT.glob("*.py")]
    ours += [path.parent.name for path in ROOT.glob("*/__init__.py")]
    config.addinivalue_line("filterwarnings", rf"error:::({'|'.join(sorted(ours))})(\.|$)")


class SharedFixtures(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    """Runs a class in one worker, and a whole file where a fixture is for its module.

    Such a fixture starts servers, and each worker would start its own.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _has_module_fixture(file) else str(super()._split_scope(nodeid))


@functools.cache
def _has_module_fixture(file: str) -> bool:
    return 'scope="module"' in (ROOT / file).read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedFixtures | None:
    """Schedule `--dist loadscope`."""
    return SharedFixtures(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_report_header() -> str:
    return f"database: {kind_under_test()}, settings: {os.environ['DJANGO_SETTINGS_MODULE']}"

"""Settings as a separate process reads them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings

from outbox.subscriptions import queues
from outbox.transports.base import QUEUE

PRODUCTION = {
    "SECRET_KEY": "a-key-that-is-long-enough-0123456789-and-has-many-letters",
    "ALLOWED_HOSTS": "shop.example.com",
    "SITE_ORIGIN": "https://shop.example.com",
    "DATABASE_URL": "postgres://shop:secret@db.example.com:5432/shop",
    "REDIS_URL": "rediss://:secret@broker.example.com:6379/0",
    "EMAIL_URL": "smtp+tls://shop:secret@mail.example.com:587",
    "BANK_URL": "https://bank.example.com",
    "BANK_API_KEY": "secret",
    "BANK_WEBHOOK_SECRETS": "secret",
}


def manage(local: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py in a world that knows these variables only."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env={"PATH": os.defpath, "SHOP_LOCAL_DIR": str(local), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def setting(local: Path, name: str, **environment: str) -> str:
    program = f"from django.conf import settings; print('=', settings.{name})"
    answer = manage(local, "shell", "--no-imports", "--command", program, **environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip().removeprefix("= ")


class TestAFreshClone:
    def test_passes_its_checks_without_any_setting(self, tmp_path):
        answer = manage(tmp_path, "check", "--fail-level", "WARNING")

        assert answer.returncode == 0, answer.stderr

    def test_creates_a_private_secret_key(self, tmp_path):
        first, second = setting(tmp_path, "SECRET_KEY"), setting(tmp_path, "SECRET_KEY")

        assert first == second
        assert len(first) >= 50
        assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600

    def test_accepts_former_secret_keys(self, tmp_path):
        """Failed: no variable set them, and a change of SECRET_KEY ended all that it had signed."""
        assert setting(tmp_path, "SECRET_KEY_FALLBACKS") == "[]"
        former = setting(tmp_path, "SECRET_KEY_FALLBACKS", SECRET_KEY_FALLBACKS="former,older")
        assert former == "['former', 'older']"

    @pytest.mark.parametrize(
        "name", ["SECRET_KEY_FALLBACKS", "CSRF_TRUSTED_ORIGINS", "BANK_WEBHOOK_SECRETS"]
    )
    def test_ignores_spaces_around_the_parts_of_a_list(self, tmp_path, name):
        """Failed: the second secret began with a space, so no signature was valid."""
        value = setting(tmp_path, name, **{name: "https://one, https://two ,"})

        assert value == "['https://one', 'https://two']"

    def test_keeps_debug_off(self, tmp_path):
        assert setting(tmp_path, "DEBUG") == "False"


class TestTheOutbox:
    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("{'SOURCE': '/a-password'}", "OUTBOX is not valid JSON: Expecting property name"),
            ('["a-password"]', "OUTBOX is no JSON object"),
        ],
    )
    def test_must_be_a_json_object(self, tmp_path, text, error):
        answer = manage(tmp_path, "check", OUTBOX=text)

        assert answer.returncode != 0
        assert answer.stderr.startswith(error)
        assert "Traceback" not in answer.stderr
        assert "a-password" not in answer.stderr

    def test_is_read_from_the_environment(self, tmp_path):
        assert "'SOURCE': '/shop'" in setting(tmp_path, "OUTBOX", OUTBOX='{"SOURCE": "/shop"}')


class TestTheDatabaseFile:
    """Seen to fail as SQLite creates it: 0644, and its journals alike."""

    WRITE = """
from django.db import connection
connection.cursor().execute("CREATE TABLE t (a)")
from pathlib import Path
from django.conf import settings
for file in sorted(Path(settings.DATABASES["default"]["NAME"]).parent.glob("*.sqlite3*")):
    print(file.name, oct(file.stat().st_mode & 0o777))
"""
    PRIVATE = ["db.sqlite3 0o600", "db.sqlite3-shm 0o600", "db.sqlite3-wal 0o600"]

    def test_is_readable_by_its_owner_only_with_its_journals(self, tmp_path: Path):
        answer = manage(tmp_path / "local", "shell", "--no-imports", "--command", self.WRITE)

        assert answer.stdout.splitlines() == self.PRIVATE
        assert stat.S_IMODE((tmp_path / "local").stat().st_mode) == 0o700

    def test_of_an_earlier_release_is_closed_to_others(self, tmp_path: Path):
        (tmp_path / "db.sqlite3").touch(mode=0o644)

        answer = manage(tmp_path, "shell", "--no-imports", "--command", self.WRITE)

        assert answer.stdout.splitlines() == self.PRIVATE

    def test_at_a_chosen_path_keeps_its_mode(self, tmp_path: Path):
        (tmp_path / "mine.sqlite3").touch()
        (tmp_path / "mine.sqlite3").chmod(0o640)
        url = f"sqlite:///{tmp_path}/mine.sqlite3"

        manage(
            tmp_path / "local", "shell", "--no-imports", "--command", self.WRITE, DATABASE_URL=url
        )

        assert stat.S_IMODE((tmp_path / "mine.sqlite3").stat().st_mode) == 0o640


class TestTheRunFile:
    @pytest.fixture
    def local(self, tmp_path):
        given = {"DEBUG": True, "REDIS_URL": "redis://:given@127.0.0.1:1/0", "pid": 1}
        (tmp_path / "run.json").write_text(json.dumps(given))
        return tmp_path

    def test_gives_a_second_terminal_the_broker(self, local):
        assert setting(local, "CELERY_BROKER_URL") == "redis://:given@127.0.0.1:1/0"
        assert setting(local, "DEBUG") == "True"

    def test_is_overridden_by_the_environment(self, local):
        url = "redis://:mine@127.0.0.1:2/0"

        assert setting(local, "CELERY_BROKER_URL", REDIS_URL=url) == url

    def test_is_ignored_in_production(self, local):
        assert setting(local, "DEBUG", SECRET_KEY="x", ALLOWED_HOSTS="shop.example.com") == "False"

    def test_may_be_damaged(self, local):
        (local / "run.json").write_text("{")

        assert setting(local, "DEBUG") == "False"


class TestTheQueuesOfSqs:
    def test_are_by_default_those_of_all_handlers(self):
        assert set(settings.SQS_QUEUES) == {QUEUE}.union(*queues().values())

    def test_have_an_address_each_and_replace_other_brokers(self, tmp_path):
        given = {
            "SQS_URL": "sqs://",
            "SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/shop-{queue}",
            "AMQP_URL": "amqp://broker/",
        }

        options = setting(tmp_path, "CELERY_BROKER_TRANSPORT_OPTIONS", **given)

        assert setting(tmp_path, "CELERY_BROKER_URL", **given) == "sqs://"
        assert "/123456789012/shop-payments-gateway'" in options


class TestSeveralHosts:
    """Settings with a primary and its standbys, Sentinels, or nodes of RabbitMQ."""

    SENTINELS = "sentinel://:secret@one:26379,two:26379/0"

    def test_of_postgresql_are_connected_to_where_writes_are_accepted(self, tmp_path):
        url = "postgres://shop:secret@one:5432,[2001:db8::1]:5433/shop?keepalives_idle=7"

        database = setting(tmp_path, "DATABASES['default']", DATABASE_URL=url)

        assert "'HOST': 'one,2001:db8::1', 'PORT': '5432,5433'" in database
        assert "'target_session_attrs': 'read-write'" in database
        assert "'connect_timeout': 3" in database
        assert "'keepalives_idle': 7" in database

    @pytest.mark.parametrize("hosts", ["one:5432,two", "one,two:5432", "one:1,two:2,three"])
    def test_of_postgresql_need_as_many_ports(self, tmp_path, hosts):
        url = f"postgres://shop:secret@{hosts}/shop"

        answer = manage(tmp_path, "check", DATABASE_URL=url)

        assert answer.returncode == 1
        assert "DATABASE_URL has " in answer.stderr
        assert "Give each host its port: postgres://" in answer.stderr
        assert "secret" not in answer.stderr

    def test_may_be_one_without_any_option(self, tmp_path):
        database = setting(tmp_path, "DATABASES['default']", DATABASE_URL="postgres://one/shop")

        assert "target_session_attrs" not in database
        assert "'tcp_user_timeout': 10000" in database

    def test_of_sentinel_have_the_credentials_of_redis(self, tmp_path):
        given = {"REDIS_URL": self.SENTINELS, "REDIS_MASTER_NAME": "shop"}

        assert setting(tmp_path, "CELERY_BROKER_URL", **given) == (
            "sentinel://:secret@one:26379/0;sentinel://:secret@two:26379/0"
        )
        options = setting(tmp_path, "CELERY_BROKER_TRANSPORT_OPTIONS", **given)
        assert "'master_name': 'shop'" in options
        assert "'retry': None" in options

    def test_of_sentinel_need_the_name_of_the_primary(self, tmp_path):
        answer = manage(tmp_path, "check", REDIS_URL=self.SENTINELS)

        assert answer.returncode == 1
        assert "REDIS_MASTER_NAME is not set" in answer.stderr

    @pytest.mark.parametrize(
        "variables",
        [
            {"REDIS_URL": SENTINELS, "REDIS_MASTER_NAME": "shop", "SENTINEL_PASSWORD": "other"},
            {"AMQP_URL": "amqp://shop:secret@one//;amqp://shop:secret@two//"},
            {"DATABASE_URL": "postgres://shop:secret@one:5432,two:5432/shop"},
        ],
    )
    def test_pass_the_deployment_checks(self, tmp_path, variables):
        given = {**PRODUCTION, **variables}

        answer = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **given)

        assert answer.returncode == 0, answer.stderr


class TestTheOriginOfTheSite:
    @pytest.mark.parametrize(
        "text",
        [
            "shop.example.com",
            "https://",
            "https://shop.example.com/shop",
            "ftp://shop",
            "//shop",
            "https://[::1",
            "https://::1]",
            "https://shop.example.com:https",
            "https://:443",
        ],
    )
    def test_has_a_scheme_and_a_host_only(self, tmp_path, text):
        answer = manage(tmp_path, "check", SITE_ORIGIN=text)

        assert answer.returncode == 1
        assert f"SITE_ORIGIN is '{text.rstrip('/')}'. Give a scheme and a host" in answer.stderr
        assert answer.stderr.count("\n") == 1

    @pytest.mark.parametrize("text", ["https://shop.example.com/", "http://[::1]:8000"])
    def test_may_end_with_a_slash_and_have_a_port(self, tmp_path, text):
        assert setting(tmp_path, "SITE_ORIGIN", SITE_ORIGIN=text) == text.rstrip("/")


class TestProduction:
    @pytest.mark.parametrize("sign", [{"ALLOWED_HOSTS": "shop.example.com"}, {"DEBUG": "false"}])
    def test_without_a_secret_key_stops_with_an_error(self, tmp_path, sign):
        answer = manage(tmp_path, "check", **sign)

        assert answer.returncode == 1
        assert answer.stderr.startswith("SECRET_KEY is not set. Give it at least 50 random")
        assert answer.stderr.count("\n") == 1

    def test_with_a_second_factor_needs_a_host_name(self, tmp_path):
        """Failed: an IndexError with a traceback."""
        given = {**PRODUCTION, "DEBUG": "false", "ALLOWED_HOSTS": "", "SECOND_FACTOR": "optional"}

        answer = manage(tmp_path, "check", **given)

        assert answer.returncode == 1
        assert answer.stderr.startswith(
            "SECOND_FACTOR is 'optional', and ALLOWED_HOSTS is empty. Set ALLOWED_HOSTS"
        )
        assert answer.stderr.count("\n") == 1

    @pytest.mark.skipif(find_spec("pycurl") is None, reason="Celery over SQS needs pycurl.")
    def test_passes_the_deployment_checks_with_sqs(self, tmp_path):
        address = "https://sqs.eu-west-1.amazonaws.com/123456789012/{queue}"
        variables = {**PRODUCTION, "SQS_URL": "sqs://", "SQS_QUEUE_URL": address}

        answer = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **variables)

        assert answer.returncode == 0, answer.stderr

    @pytest.mark.parametrize("option", ["tcp_user_timeout=0", "keepalives=0", "connect_timeout=0"])
    def test_is_refused_if_a_lost_database_would_stop_it_for_minutes(self, tmp_path, option):
        url = f"{PRODUCTION['DATABASE_URL']}?{option}"

        answer = manage(tmp_path, "check", "--deploy", **{**PRODUCTION, "DATABASE_URL": url})

        assert answer.returncode == 1
        assert f"set {option.partition('=')[0]}" in answer.stderr.lower().replace(
            'databases["default"]["options"]["', ""
        )

    def test_passes_the_deployment_checks(self, tmp_path):
        answer = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)

        assert answer.returncode == 0, answer.stderr

"""Logs of real programs: one JSON object per line, with the correlation id."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject
from gunicorn.config import Config  # type: ignore[import-untyped]  # gunicorn has no types
from gunicorn.glogging import Logger, SafeAtoms  # type: ignore[import-untyped]  # nor here

from outbox.context import CorrelationFilter, RequestContextMiddleware
from shop.logs import without_links
from shop.up.ports import free_port
from shop.up.programs import ACCESS_LOG, WEB_IS_READY
from tests.shop.test_settings import PRODUCTION, manage

WARN = """
import logging
from uuid import UUID
from django.test import RequestFactory
from outbox.context import Cause, RequestContextMiddleware, caused_by
from django.http import HttpResponse

request = RequestFactory().get("/orders?card=Anns-card")

def view(request):
    logging.getLogger("orders").warning("late\\nline", extra={"request": request, "order": 7})
    return HttpResponse()

request.META["HTTP_X_CORRELATION_ID"] = "01a21019-29db-7699-9d35-c9dfc5d7660d"
RequestContextMiddleware(view)(request)
with caused_by(Cause(emitted_by="orders.record_stock_reserved")):
    logging.getLogger("orders").warning("in a handler")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("orders").exception("it broke")
try:
    raise ValueError("for hanako@example.com")
except ValueError:
    logging.getLogger("library").exception("%d: no mail to %s", 1234567890, "hanako@example.com")
"""


def written(local: Path, **environment: str) -> list[str]:
    answer = manage(local, "shell", "--no-imports", "--command", WARN, **environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stderr.splitlines()


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    found = written(tmp_path_factory.mktemp("local"), **PRODUCTION)
    return [json.loads(line) for line in found]


class TestAProductionLog:
    def test_has_one_json_object_per_line(self, lines):
        assert [line["message"] for line in lines] == [
            "late\nline",
            "in a handler",
            "it broke",
            "1234567890: no mail to ***",
        ]
        assert lines[0]["level"] == "WARNING"
        assert lines[0]["logger"] == "orders"
        assert lines[0]["order"] == 7
        assert lines[0]["time"].endswith("+00:00")

    def test_has_the_correlation_id_of_the_request(self, lines):
        assert lines[0]["correlation_id"] == "01a21019-29db-7699-9d35-c9dfc5d7660d"
        assert lines[2]["correlation_id"] == ""

    def test_has_the_handler_that_runs(self, lines):
        assert [line["handler"] for line in lines] == ["", "orders.record_stock_reserved", "", ""]

    def test_has_a_traceback_within_its_line(self, lines):
        assert "ZeroDivisionError" in lines[2]["exc_info"]

    def test_masks_addresses_of_libraries_too(self, lines):
        assert "hanako" not in json.dumps(lines)
        assert "ValueError: for ***" in lines[3]["exc_info"]

    def test_has_no_query_string(self, lines):
        assert "Anns-card" not in json.dumps(lines)


class TestAClientError:
    """Seen to fail as Django has it: an ERROR with a traceback for each wrong host name."""

    ASK = """
from django.test import Client
Client(HTTP_HOST="evil.example.com" + "x" * 2000).get("/api/products/")
Client(HTTP_HOST="evil.example.com").get("/")
Client(HTTP_HOST="shop.example.com").get("/api/products/?a=%00", secure=True)
"""

    @pytest.mark.parametrize("form", ["json", "plain"])
    def test_is_a_warning_of_one_line(self, tmp_path: Path, form: str):
        (tmp_path / "static").mkdir()

        answer = manage(
            tmp_path, "shell", "--no-imports", "--command", self.ASK, **PRODUCTION, LOG_FORMAT=form
        )

        assert answer.returncode == 0, answer.stderr
        first, second, third = answer.stderr.splitlines()
        assert "WARNING" in first
        assert "WARNING" in second
        assert "Invalid HTTP_HOST header: 'evil.example.com'" in second
        assert "'a' contains a NUL character" in third
        assert len(first) < 700


class TestALogOfDevelopment:
    def test_is_plain_text(self, tmp_path: Path):
        assert " WARNING orders: in a handler" in written(tmp_path)[2]


class TestTheCorrelationOfALine:
    def test_reads_no_user(self, caplog: pytest.LogCaptureFixture):
        """Without the mark django_db a query fails this test; a user is read from the database."""

        def view(request: HttpRequest) -> HttpResponse:
            logging.getLogger("orders").warning("here")
            return HttpResponse()

        request = RequestFactory().get("/")
        vars(request)["user"] = SimpleLazyObject(lambda: pytest.fail("the user was asked for"))
        caplog.handler.addFilter(mark := CorrelationFilter())
        try:
            RequestContextMiddleware(view)(request)
        finally:
            caplog.handler.removeFilter(mark)

        assert vars(caplog.records[-1])["correlation_id"]


class TestASecretLink:
    @pytest.mark.parametrize(
        ("path", "masked"),
        [
            ("/account/new-password/MQ/d6mjcn-0123/", "/account/new-password/***/***/"),
            ("/account/verify/WzEsImFiI:1tWq:x_Y-z/", "/account/verify/***/"),
        ],
        ids=["new-password", "verify"],
    )
    def test_is_masked(self, path: str, masked: str):
        assert without_links(f"GET {path}?next=/ 200") == f"GET {masked}?next=/ 200"

    @pytest.mark.parametrize("path", ["/account/new-password/sent/", "/account/verify/"])
    def test_is_told_from_other_pages(self, path: str):
        assert without_links(path) == path


class TestTheWebServersLine:
    @pytest.fixture(params=["json"])
    def server(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
        port, log = free_port(), tmp_path / "log"
        environment = {**PRODUCTION, "DATABASE_URL": f"sqlite:///{tmp_path}/db", "HTTPS": "false"}
        environment["LOG_FORMAT"] = request.param
        with log.open("w") as file:
            program = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "shop.wsgi", "--no-control-socket"),
                    *("--bind", f"127.0.0.1:{port}", "--access-logfile", "-"),
                ],
                cwd=settings.BASE_DIR,
                env={"SHOP_LOCAL_DIR": str(tmp_path), **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield f"http://127.0.0.1:{port}", log
        finally:
            program.terminate()
            program.wait(60)

    def test_shows_make_up_that_the_process_is_ready(self, server: tuple[str, Path]):
        _url, log = server

        _until(lambda: any(re.search(WEB_IS_READY, one) for one in log.read_text().splitlines()))

    def test_has_its_fields_and_the_correlation_id_of_the_answer(self, server: tuple[str, Path]):
        url, log = server
        given = str(uuid4())
        headers = {"X-Correlation-ID": given, "Host": "shop.example.com"}
        request = urllib.request.Request(f"{url}/api/orders/?card=Anns-card", headers=headers)

        _until(lambda: _status(request) == 401)
        _until(lambda: given in log.read_text())

        line = next(json.loads(one) for one in log.read_text().splitlines() if given in one)
        assert line["correlation_id"] == given
        assert (line["method"], line["path"], line["status"]) == ("GET", "/api/orders/", 401)
        assert line["client"] == "127.0.0.1"
        assert line["seconds"] > 0
        assert "Anns-card" not in json.dumps(line)

    @pytest.mark.parametrize("server", ["json", "plain"], indirect=True)
    def test_has_no_secret_link(self, server: tuple[str, Path]):
        """A reader of the log would have hours to use it. An error logs the address, too."""
        url, log = server
        headers = {"Host": "shop.example.com"}
        for path in ("new-password/MQ/d6mjcn-0123/", "verify/d6mjcn:0123:4567/"):
            link = f"{url}/account/{path}"
            request = urllib.request.Request(link, headers={**headers, "Referer": link})
            _until(partial(_is_answered, request))

        _until(lambda: "/account/new-password/***/***/" in log.read_text())
        _until(lambda: "/account/verify/***/" in log.read_text())
        end = urllib.request.Request(f"{url}/end/", headers=headers)
        _until(lambda: _status(end) > 0)
        _until(lambda: "/end/" in log.read_text())

        assert "d6mjcn" not in log.read_text()


def _is_answered(request: urllib.request.Request) -> bool:
    return _status(request) > 0


def _status(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


class TestTheAccessLineOfUp:
    def test_is_one_line_for_any_request(self):
        """With the decoded path in its place: two, the second one as the visitor likes."""
        asked = "/api/%0d%0aFAKE%1b[2J/?a=1"
        environ = {
            "REQUEST_METHOD": "GET",
            "RAW_URI": asked,
            "PATH_INFO": "/api/\r\nFAKE\x1b[2J/",
            "QUERY_STRING": "a=1",
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        answer = SimpleNamespace(status="404 Not Found", sent=0, headers=[])

        logger = Logger(Config())
        atoms = logger.atoms(answer, SimpleNamespace(headers=[]), environ, timedelta())

        assert ACCESS_LOG % SafeAtoms(atoms) == f"GET {asked} 404 in 0 ms"

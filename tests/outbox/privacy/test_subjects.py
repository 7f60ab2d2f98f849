"""Values that apps declare for a subject are masked in stored, shown and archived failures."""

from __future__ import annotations

import gzip
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from outbox import (
    Breaker,
    DomainEvent,
    Pause,
    PermanentFailure,
    Sensitive,
    declare_subject,
    operations,
    subscribe,
)
from outbox.models import Attempt, Delivery, Event, Subscription
from outbox.privacy import subjects
from outbox.privacy.cleaning import Cleaner
from outbox.privacy.masking import masked_patterns, masked_values
from outbox.privacy.redaction import redact
from outbox.privacy.subjects import DeclarationFailed
from outbox.testing import Outbox

pytestmark = pytest.mark.usefixtures("own_registry")

EMAIL, NAME = "hanako@example.com", "Hanako Yamada"
#: Between the digits of a number: as text, as `repr` or JSON, in an URL, in HTML.
SEPARATORS = [
    *["-", " - ", " ", ".", "/", "\t"],
    *[chr(code) for code in (0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2212, 0xFF0D)],
    *[chr(code) for code in (0x30FC, 0xFF70, 0x00AD, 0xFE63, 0x30FB, 0xFF0E, 0x00B7)],
    *[chr(code) for code in (0x00A0, 0x2009, 0x202F, 0x3000, 0x200B, 0xFEFF)],
    *[r"\xa0", r"\u2010", r"\u2013", r"\uff0d", r"\u3000", r"\u200b", r"\t"],
    *["%20", "+", "%2D", "&nbsp;", "&#160;", "&ndash;", "%C2%A0", "%E2%80%93", "%EF%BC%8D"],
]
CUSTOMERS = {"7": [EMAIL, NAME], "8": ["taro@example.com"]}
ORDERS = {"order-1": "7", "order-2": "8"}


class OrderNoted(DomainEvent, key="order"):
    """Thin: it names no subject."""

    order: str


class ParcelNoted(DomainEvent, key="order", subject="customer:{customer}"):
    order: str
    customer: int
    email: Sensitive[str]


class GuestNoted(DomainEvent, key="order", subject="customer:{customer}"):
    order: str
    customer: int | None = None


def declare() -> None:
    declare_subject(
        "customer",
        values=lambda part: CUSTOMERS.get(part, []),
        keys=lambda part: [key for key, customer in ORDERS.items() if customer == part],
        of_key=ORDERS.get,
    )


@pytest.fixture
def outbox() -> Outbox:
    """With a handler of thin events whose error names both customers."""

    @subscribe("tests.OrderNoted")
    def write(order: str) -> None:
        raise PermanentFailure(f"{NAME} and Taro Tanaka of {order}")

    return Outbox()


def fail(outbox: Outbox, key: str = "order-1") -> Attempt:
    outbox.given("tests.OrderNoted", order=key)
    outbox.deliver_all(raise_errors=False)
    return Attempt.objects.get(delivery__event__key=key)


class TestAPattern:
    @pytest.mark.parametrize(
        "text",
        [
            "hanako.yamada+shop@example.co.jp",
            "HANAKO@EXAMPLE.COM",
            '"hanako yamada"@example.com',
            "hanako%40example.com",
            "hanako&#x40;example.com",
            "hanako@[192.0.2.1]",
            "花子@例え.jp",
            "hanako\uff20example.com",
            "+81 3 1234 5678",
            "(03) 1234-56789",
            "4242424242424242",
            "4242 4242 4242 4242",
        ],
    )
    def test_masks_addresses_and_long_numbers(self, text: str):
        assert masked_patterns(f"to <{text}>, refused") == "to <***>, refused"

    @pytest.mark.parametrize(
        "text",
        [
            "0465-22-1234",
            "0120-12-3456",
            "0120-12-3112",
            "1985-12-3112",
            "1985-12-31-7899",
            "4000-12-3456-7899",
            "4000-12-31-7899",
            "4242-1985-12-31",
            "912.34.56.78",
            "02.123.45.67",
            "1.192.168.100.200",
            "192.168.100.200-77",
        ],
    )
    def test_masks_a_number_that_begins_or_ends_as_a_date_or_an_ip_address(self, text: str):
        """Failed: its start was kept as a date or an address, and the rest was too short."""
        assert masked_patterns(f"no answer from {text}, gave up") == "no answer from ***, gave up"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("電話番号は09012345678です", "電話番号は***です"),
            ("090-1234-5678さん", "***さん"),
            ("Tel09012345678", "Tel***"),
            ("phone_09012345678", "phone_***"),
            ("x09012345678x", "x***x"),
            ("DE89370400440532013000", "***"),
            ("be68539007547034", "be***"),
            ("FR1420041010050500013M02606", "***"),
            ("GB29 NWBK 6016 1331 9268 19", "***"),
        ],
    )
    def test_masks_a_number_beside_letters(self, text: str, shown: str):
        """Failed: a number was sought only between characters that are in no word."""
        assert masked_patterns(f"rejected: {text}") == f"rejected: {shown}"

    @pytest.mark.parametrize("between", SEPARATORS)
    def test_masks_a_number_with_any_separators(self, between: str):
        """Failed: hyphens, spaces and dots beyond ASCII, and escaped ones, ended a number."""
        number = between.join(["090", "1234", "5678"])

        assert masked_patterns(f"to {number}, refused") == "to ***, refused"

    def test_masks_full_width_digits(self):
        number = "０９０－１２３４－５６７８"  # noqa: RUF001 -- they are what is tested

        assert masked_patterns(f"{number}です") == "***です"
        assert masked_patterns(ascii(number)) == "'***'"

    @pytest.mark.parametrize(
        "text",
        [
            "01a21f54-408b-77b7-863a-ec9ef03bcfd2",
            "2026-11-27T23:25:45.075+00:00",
            "2026-11-27 23:25:45",
            "192.168.100.200",
            "from 10 2026-11-27 23:25:45.075123+00 to 2026-11-28 on 192.168.100.200.",
            "2026-11-27T23:25:45.075123Z 3 times",
            "http://192.168.100.200:5432/ and 10.100.100.0/24",
            "line 1234567 of views.py",
            "@subscribe at 0x7fe592fdd950",
            "@subscribe at 0x7f1234567890",
            "trace 4bf92f123456789da6a3ce929d0e0e47 of span 00f0123456789ab7",
            "sha256 " + "e3b0c442" * 4 + "123456789012345a" * 2,
            "order_01a21f54-4081-7771-8631-123456789012",
            "JPY 12,345,678 are 67,890.12 EUR, of 1234.50 and 99999.99",
        ],
    )
    def test_keeps_numbers_that_identify_no_person(self, text: str):
        assert masked_patterns(text) == text


class TestAValue:
    def test_is_masked_completely_if_another_form_has_the_same_end(self):
        """Failed: "Hanako ***" was left, by the end of the form "Hanako%20Yamada"."""
        name = "Hanako Yamada-Tester"

        assert masked_values(f"no mailbox of {name}", [name], mask="***") == "no mailbox of ***"

    @pytest.mark.parametrize(
        ("value", "text", "shown"),
        [
            ("İbrahim Öztürk-Demir", "İİİİİİ: no İbrahim Özt...", "İİİİİİ: no ***..."),
            ("İbrahim Öztürk-Demir", "İİ: no ...türk-Demir, İİ", "İİ: no ...***, İİ"),
        ],
    )
    def test_is_masked_if_a_letter_is_longer_in_lower_case(self, value: str, text: str, shown: str):
        """Failed: each "İ" before a value that was cut moved its mask to the right."""
        assert masked_values(text, [value], mask="***") == shown

    @pytest.mark.parametrize(
        "part", ["Hanakos Öztü...", "...Öztürk-Demir"], ids=["beginning", "end"]
    )
    def test_is_masked_up_to_the_end_of_its_longest_form(self, part: str):
        """Failed: the part of its JSON form was masked first, and "Öztü" was left."""
        text = masked_values(f"no {part} there", ["Hanakos Öztürk-Demir"], mask="***")

        shown = "***..." if part.endswith("...") else "...***"
        assert text == f"no {shown} there"

    def test_compiles_no_pattern_of_its_length(self, monkeypatch: pytest.MonkeyPatch):
        """Failed: `re` kept some 90 MB for a value of 1 MiB, and up to 512 of its patterns."""
        patterns: list[str] = []
        substitute = re.sub

        def sub(pattern: str, *args: Any, **options: Any) -> str:
            patterns.append(pattern)
            return substitute(pattern, *args, **options)

        monkeypatch.setattr("re.sub", sub)
        values = ["Hanako Yamada " * 1000, "Hanako Yamada", "7"]
        text = masked_values("no mailbox 7 of hanako yamada", values, mask="***")

        assert text == "no mailbox *** of ***"
        assert patterns == [r"(?<!\w)7(?!\w)"]

    def test_is_masked_in_each_case_that_a_regular_expression_ignores(self):
        """Some letters have several, such as "ς", the sigma at the end of a word."""
        every = [chr(code) for code in range(sys.maxunicode + 1)]
        letters = [one for one in every if one != one.lower() or one != one.upper()]
        text = "".join(letters)
        alike = [(one, re.findall(re.escape(one), text, re.IGNORECASE)) for one in letters]

        for one, others in alike:
            for other in others:
                assert masked_values(f"of {other * 4}.", [one * 4], mask="***") == "of ***."


class TestACleaner:
    def test_cuts_a_long_text_without_leaving_part_of_a_value(self):
        text = "x" * 395 + EMAIL + "y" * 1000

        assert "hanako" not in Cleaner([EMAIL]).clean(text, longest=100)
        assert "hanako" not in Cleaner([EMAIL]).clean_end(text, longest=260)

    def test_replaces_each_text_by_its_error_message(self):
        cleaner = Cleaner([], refusal="(not shown)")

        assert (cleaner.clean("a", longest=20), cleaner.clean_end("a", longest=4)) == (
            "(not shown)",
            "(not",
        )


class TestADeclaredValue:
    def test_is_masked_in_the_failures_of_thin_events(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture
    ):
        declare()

        attempt = fail(outbox)

        assert attempt.message == "*** and Taro Tanaka of order-1"
        note = Delivery.objects.get().note
        for text in (attempt.traceback, note, caplog.text):
            assert NAME not in text
            assert "***" in text

    def test_is_masked_for_its_subject_only(self, outbox: Outbox):
        declare()

        assert NAME in fail(outbox, "order-2").message

    def test_is_masked_in_older_failures_by_a_redaction(self, outbox: Outbox):
        """Failed: a redaction looked at events that declare the subject, and at no others."""
        attempt, other = fail(outbox), fail(outbox, "order-2")
        assert NAME in attempt.message
        declare()

        redact(subject="customer:7", by="ann", reason="asked to")

        attempt.refresh_from_db()
        other.refresh_from_db()
        note = Delivery.objects.get(event__key="order-1").note
        assert NAME not in attempt.message + attempt.traceback + note
        assert NAME in other.message

    def test_is_masked_in_pause_and_breaker_reasons_by_a_redaction(self):
        """Failed: a redaction cleaned attempts and notes alone."""

        @subscribe("tests.OrderNoted", rules={ValueError: Pause("look")})
        def pausing() -> None:
            raise ValueError(f"no contract with {NAME}")

        @subscribe("tests.OrderNoted", breaker=Breaker(on=(OSError,), failures=1))
        def breaking() -> None:
            raise OSError(f"no line to {NAME}")

        @subscribe("tests.ParcelNoted")
        def paused_by_a_person() -> None: ...

        outbox = Outbox()
        outbox.given("tests.OrderNoted", order="order-1")
        outbox.deliver_all(raise_errors=False)
        operations.pause("tests.paused_by_a_person", by="ann", reason="ticket 123456789")
        declare()

        redact(subject="customer:7", by="ann", reason="asked to")

        rows = Subscription.objects.order_by("handler")
        assert [row.pause_reason or row.breaker_reason for row in rows] == [
            "OSError: no line to ***",
            "ticket 123456789",
            "look (ValueError: no contract with ***)",
        ]

    @pytest.mark.parametrize("part", ["values", "of_key"])
    def test_that_cannot_be_read_hides_the_whole_text(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture, part: str
    ):
        def broken(_text: str) -> Any:
            raise LookupError(EMAIL)

        functions: dict[str, Any] = {"values": CUSTOMERS.get, "of_key": ORDERS.get, part: broken}
        declare_subject("customer", **functions)

        attempt = fail(outbox)

        assert attempt.message.startswith("(not shown: the personal data of event ")
        assert "LookupError" in attempt.message
        for text in (attempt.message, attempt.traceback, Delivery.objects.get().note, caplog.text):
            assert NAME not in text
            assert EMAIL not in text

    @pytest.mark.parametrize("part", ["values", "of_key"])
    def test_that_cannot_be_read_is_logged_with_its_place_and_traceback(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture, part: str
    ):
        """Failed: the text named the class of the exception alone, and nothing the line."""

        def broken(_text: str) -> Any:
            raise LookupError(str.lower("HANAKO is unknown"))

        functions: dict[str, Any] = {"values": CUSTOMERS.get, "of_key": ORDERS.get, part: broken}
        declare_subject("customer", **functions)  # the declaration

        attempt = fail(outbox)

        named = f"`{part}` of the subject 'customer', declared at {__name__}:{line_of_this()}"
        assert f"{named}, raised LookupError" in attempt.message
        [record] = [one for one in caplog.records if "A text is not shown" in one.msg][:1]
        text = record.getMessage()
        assert record.levelname == "ERROR"
        assert f"{named}, raised LookupError" in text
        assert "in broken" in text
        assert "hanako" not in text + attempt.message

    def test_from_a_generator_that_raises_is_logged(self, outbox: Outbox):
        """Failed: a generator raises after the call of its function."""

        def broken(_part: str) -> Any:
            yield EMAIL
            raise LookupError(EMAIL)

        declare_subject("customer", values=broken, of_key=ORDERS.get)

        assert "`values` of the subject 'customer', declared at" in fail(outbox).message

    def test_that_cannot_be_read_stops_a_redaction(self):
        def broken(_part: str) -> Any:
            raise LookupError(EMAIL)

        declare_subject("customer", values=lambda part: [], keys=broken)

        with pytest.raises(DeclarationFailed, match="`keys` of the subject 'customer', declared"):
            redact(subject="customer:7", by="ann", reason="asked to")

    @pytest.mark.parametrize("kind", ["", "customer:7"])
    def test_requires_a_kind_without_a_colon(self, kind: str):
        with pytest.raises(ValueError, match="a word without a colon"):
            declare_subject(kind, values=lambda part: [])
        assert subjects.registry == []


class TestAnEventWhoseSubjectIsNone:
    def test_has_no_subject_so_its_failure_is_shown(self):
        """Failed: the subject was "customer:None", and no function could read its values."""
        declare_subject("customer", values=lambda part: [CUSTOMERS[str(int(part))][0]])

        @subscribe("tests.GuestNoted")
        def write(order: str) -> None:
            raise PermanentFailure("no stock")

        outbox = Outbox()
        outbox.given("tests.GuestNoted", order="order-1")
        outbox.deliver_all(raise_errors=False)

        assert Event.objects.get().subject is None
        assert Attempt.objects.get().message == "no stock"


def line_of_this() -> int:
    """Return the line of this file that ends with "the declaration"."""
    lines = Path(__file__).read_text().splitlines()
    [number] = [at for at, line in enumerate(lines, 1) if line.endswith("# the declaration")]
    return number


class TestAnArchive:
    @pytest.fixture
    def noted(self) -> None:
        outbox = Outbox()
        outbox.given("tests.ParcelNoted", order="order-1", customer=7, email=EMAIL)
        outbox.deliver_all()

    def payload(self, folder: Path) -> dict[str, Any]:
        operations.prune(older_than=timedelta(0), archive=folder)
        [file] = folder.glob("*.gz")
        line: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
        payload: dict[str, Any] = line["payload"]
        return payload

    def test_has_blanks_in_sensitive_fields(self, noted: None, tmp_path: Path):
        assert self.payload(tmp_path) == {"order": "order-1", "customer": 7, "email": ""}

    def test_has_sensitive_values_if_the_settings_allow_it(
        self, noted: None, tmp_path: Path, settings: Settings
    ):
        settings.OUTBOX = {**settings.OUTBOX, "ARCHIVE_SENSITIVE": True}

        assert self.payload(tmp_path)["email"] == EMAIL

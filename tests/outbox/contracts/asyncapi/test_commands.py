"""`manage.py outbox asyncapi` and `diff`."""

# No `from __future__ import annotations`: pydantic sees the local classes of tests.

import json
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command

from outbox import DomainEvent
from outbox.contracts.asyncapi import as_text, document
from outbox.contracts.asyncapi.markdown import as_markdown
from tests.outbox.command import outbox_command, refused
from tests.outbox.contracts.asyncapi.documents import changed, of_billing
from tests.outbox.sources.messages import declare_invoice_paid

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def parcel_sent(own_registry: None) -> None:
    class ParcelSent(DomainEvent, key="parcel_id"):
        parcel_id: UUID
        grams: int


class TestAsyncapi:
    def test_prints_the_document(self):
        assert json.loads(outbox_command("asyncapi")) == document()

    def test_without_internal_channels_prints_what_others_see(self):
        assert json.loads(outbox_command("asyncapi", "--external")) == document(internal=False)

    def test_writes_the_document_to_a_file(self, tmp_path: Path):
        output = outbox_command("asyncapi", "--output", str(tmp_path / "a.json"))

        assert (tmp_path / "a.json").read_text() == as_text(document())
        assert output.startswith(f"{tmp_path / 'a.json'}: ")

    def test_accepts_an_equal_file(self, tmp_path: Path):
        (tmp_path / "a.json").write_text(as_text(document()))

        output = outbox_command("asyncapi", "--check", str(tmp_path / "a.json"))

        assert output == f"{tmp_path / 'a.json'} is up to date.\n"

    def test_names_the_differences_of_an_outdated_file(self, tmp_path: Path):
        made = document()
        schema = made["components"]["schemas"]["tests.ParcelSent.v1"]
        schema["properties"]["grams"] = {"type": "string"}
        (tmp_path / "a.json").write_text(as_text(made))

        output = refused("asyncapi", "--check", str(tmp_path / "a.json"))

        assert output.splitlines() == [
            f"{tmp_path / 'a.json'} is outdated.",
            "Channel tests.ParcelSent, message tests.ParcelSent.v1: grams: the new message "
            "carries an integer, a present receiver reads a string. This breaks other systems.",
            f"Run `manage.py outbox asyncapi --output {tmp_path / 'a.json'}`.",
        ]

    def test_names_a_difference_of_descriptions(self, tmp_path: Path):
        made = document()
        made["info"]["description"] = "Another text."
        (tmp_path / "a.json").write_text(as_text(made))

        assert "Descriptions, titles or examples differ." in refused(
            "asyncapi", "--check", str(tmp_path / "a.json")
        )

    def test_changes_no_file_that_it_checks(self, tmp_path: Path):
        (tmp_path / "a.json").write_text("{}")

        refused("asyncapi", "--check", str(tmp_path / "a.json"))

        assert (tmp_path / "a.json").read_text() == "{}"

    def test_writes_and_checks_a_page_in_markdown(self, tmp_path: Path):
        path = str(tmp_path / "contracts.md")

        outbox_command("asyncapi", "--output", path)

        assert Path(path).read_text() == as_markdown(document())
        assert outbox_command("asyncapi", "--check", path) == f"{path} is up to date.\n"
        Path(path).write_text("# Another page")
        assert refused("asyncapi", "--check", path) == (
            f"{path} is outdated.\nRun `manage.py outbox asyncapi --output {path}`."
        )

    def test_explains_invalid_settings_and_a_missing_folder(self, tmp_path: Path, settings: Any):
        assert refused("asyncapi", "--output", str(tmp_path / "none/a.json")).endswith(
            "cannot be written: No such file or directory."
        )

        settings.OUTBOX = {"SINKS": {"out": {"BACKEND": "none.Sink", "EVENTS": ["*"]}}}

        assert 'OUTBOX["SINKS"]["out"]' in refused("asyncapi")

    def test_names_the_next_step_for_a_missing_file(self, tmp_path: Path):
        path = tmp_path / "a.json"

        assert refused("asyncapi", "--check", str(path), "--external") == (
            f"{path} does not exist. Run `manage.py outbox asyncapi --external --output {path}`."
        )

    def test_names_a_file_that_it_cannot_read(self, tmp_path: Path):
        """Failed: a traceback."""
        latin = tmp_path / "a.json"
        latin.write_bytes("{é}".encode("latin-1"))

        assert refused("asyncapi", "--check", str(tmp_path)) == (
            f"The file {tmp_path} cannot be read: Is a directory."
        )
        assert refused("asyncapi", "--check", str(latin)).startswith(
            f"The file {latin} cannot be read: 'utf-8' codec"
        )


class TestRehearseWithADocument:
    @pytest.fixture(autouse=True)
    def invoice_paid(self, own_registry: None) -> None:
        declare_invoice_paid()

    def document_with(self, folder: Path, amount: Any, order_id: Any) -> str:
        payload = changed({"amount": amount, "order_id": order_id})
        (folder / "billing.json").write_text(json.dumps(of_billing(payload=payload)))
        return str(folder / "billing.json")

    def test_accepts_a_document_whose_messages_this_code_can_read(self, tmp_path: Path):
        path = self.document_with(
            tmp_path, {"type": "number"}, {"type": "string", "format": "uuid"}
        )

        output = outbox_command("rehearse", "--asyncapi", path, "--source", "billing")

        assert output == "1 external event compared. This code can read Billing 1.0.0.\n"

    def test_lists_what_this_code_could_not_read(self, tmp_path: Path):
        path = self.document_with(tmp_path, {"type": "boolean"}, {"type": "string"})

        output = refused("rehearse", "--asyncapi", path, "--source", "billing")

        assert output.splitlines() == [
            "billing.InvoicePaid, message paid: amount: the message carries a boolean, this code "
            "reads a number or a string (decimal).",
            "billing.InvoicePaid, message paid: order_id: the message carries a string, this code "
            "reads a string (uuid). The document states no format, so this is no error.",
            "1 problem with Billing 1.0.0.",
        ]

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--asyncapi", "billing.json"], "--asyncapi and --source require each other."),
            (["--source", "billing"], "--asyncapi and --source require each other."),
            (
                ["--asyncapi", "billing.json", "--source", "bank"],
                "No installed app declares an ExternalEvent with source='bank'. "
                "Sources with external events: billing.",
            ),
            (
                ["--asyncapi", "none.json", "--source", "billing"],
                "none.json cannot be read: No such file or directory.",
            ),
        ],
    )
    def test_refuses_incomplete_arguments(self, arguments: list[str], reason: str):
        assert refused("rehearse", *arguments) == reason


class TestDiff:
    def files(self, folder: Path, *documents: dict[str, Any]) -> list[str]:
        paths = [folder / f"{number}.json" for number, _ in enumerate(documents)]
        for path, one in zip(paths, documents, strict=True):
            path.write_text(json.dumps(one))
        return [str(path) for path in paths]

    def test_of_equal_documents_writes_one_sentence(self, tmp_path: Path):
        files = self.files(tmp_path, of_billing(), of_billing())

        assert outbox_command("diff", *files) == ("The two documents describe the same contract.\n")

    def test_exits_with_status_1_after_a_breaking_change(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        new = of_billing(payload=changed({"amount": {"type": "string"}, "tax": {"type": "number"}}))
        new["info"]["version"] = "2.0.0"

        with pytest.raises(SystemExit) as caught:
            outbox_command("diff", *self.files(tmp_path, of_billing(), new))

        assert caught.value.code == 1

    def test_lists_breaking_changes_first(self, tmp_path: Path):
        new = of_billing(payload=changed({"amount": {"type": "string"}, "tax": {"type": "number"}}))
        out = StringIO()

        with pytest.raises(SystemExit):
            call_command("outbox", "diff", *self.files(tmp_path, of_billing(), new), stdout=out)

        assert out.getvalue().splitlines() == [
            "Breaking changes:",
            "    Channel billing.invoices, message paid: amount: the new message carries a string, "
            "a present receiver reads an integer.",
            "Compatible changes:",
            "    Channel billing.invoices, message paid: has the new field tax.",
        ]

    def test_of_compatible_documents_succeeds(self, tmp_path: Path):
        new = of_billing(payload=changed({"tax": {"type": "number"}}))

        output = outbox_command("diff", *self.files(tmp_path, of_billing(), new))

        assert output.startswith("Compatible changes:\n")

    def test_names_a_file_that_is_no_document(self, tmp_path: Path):
        old, new = self.files(tmp_path, of_billing(), {})

        assert refused("diff", old, new).startswith(f"{new} is no AsyncAPI document")

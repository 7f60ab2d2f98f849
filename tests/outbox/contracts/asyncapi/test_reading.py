"""AsyncAPI documents of other systems are read: references, traits, versions 3 and 2, YAML."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from outbox.contracts.asyncapi.bundling import BadReference
from outbox.contracts.asyncapi.reading import Message, Unreadable, contract_of, read
from outbox.contracts.compatibility import mismatches
from tests.outbox.contracts.asyncapi.documents import PAYLOAD, of_billing

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once

ORDER_ID = {"type": "string", "format": "uuid"}


def the_message(document: dict[str, Any]) -> Message:
    [(_channel, message)] = contract_of(document).messages()
    return message


def fits(payload: Any, wanted: Any, **components: Any) -> list[str]:
    """Return why values of a payload's schema do not fit another schema."""
    document = of_billing(payload=payload)
    document["components"] |= components
    read = the_message(document).payload
    assert isinstance(read, dict)
    return mismatches(read, wanted)


class TestADocument:
    def test_has_channels_messages_and_operations(self):
        contract = contract_of(of_billing())

        channel = contract.channels["invoices"]
        assert (contract.title, contract.version) == ("Billing", "1.0.0")
        assert channel.address == "billing.invoices"
        assert channel.actions == {("send", "paid")}
        assert the_message(of_billing()).name == "com.example.invoice.paid"
        assert the_message(of_billing()).payload == PAYLOAD

    def test_without_a_list_of_messages_means_all_of_the_channel(self):
        document = of_billing()
        del document["operations"]["publish"]["messages"]

        assert contract_of(document).channels["invoices"].actions == {("send", "paid")}

    def test_applies_traits_below_the_message(self):
        traits = [{"contentType": "text/plain", "headers": {"type": "object"}}]
        message = the_message(of_billing(message={"traits": traits}))

        assert (message.content_type, message.headers) == ("application/json", {"type": "object"})

    def test_of_version_2_has_the_actions_of_the_application(self):
        """There, "subscribe" is for the others: the application sends."""
        paid = {"name": "paid", "payload": PAYLOAD}
        contract = contract_of(
            {
                "asyncapi": "2.6.0",
                "info": {"title": "Billing", "version": "1"},
                "channels": {
                    "billing.invoices": {"subscribe": {"message": paid}},
                    "orders": {"publish": {"message": {"oneOf": [paid, {"name": "void"}]}}},
                },
            }
        )

        channels = contract.channels
        assert channels["billing.invoices"].actions == {("send", "paid")}
        assert channels["orders"].actions == {("receive", "paid"), ("receive", "void")}
        assert channels["billing.invoices"].messages["paid"].payload == PAYLOAD

    def test_has_no_payload_in_another_schema_language(self):
        payload = {"schemaFormat": "application/vnd.apache.avro;version=1.9.0", "schema": {}}

        assert the_message(of_billing(payload=payload)).payload is None

    def test_has_a_payload_in_json_schema(self):
        payload = {"schemaFormat": "application/schema+json;version=draft-07", "schema": PAYLOAD}

        assert the_message(of_billing(payload=payload)).payload == PAYLOAD


class TestASchema:
    @pytest.mark.parametrize(
        "payload",
        [
            {"$ref": "#/components/schemas/Invoice"},
            {"type": "object", "properties": {"order_id": {"$ref": "#/components/schemas/Id"}}},
            {"allOf": [{"$ref": "#/components/schemas/Invoice"}, {"properties": {"a": ORDER_ID}}]},
            {"properties": {"order_id": {"$ref": "#/components/schemas/a~1b%20c"}}},
        ],
        ids=["reference", "nested reference", "joined parts", "escaped reference"],
    )
    def test_follows_references(self, payload: Any):
        schemas = {
            "Id": ORDER_ID,
            "a/b c": ORDER_ID,
            "Invoice": {"properties": {"order_id": {"$ref": "#/components/schemas/Id"}}},
        }

        text = {"type": "object", "properties": {"order_id": {"type": "integer"}}}
        assert fits(payload, {"type": "object", "properties": {"order_id": ORDER_ID}},
                    schemas=schemas) == []  # fmt: skip
        assert fits(payload, text, schemas=schemas) == [
            "order_id: the event carries a string (uuid), the handler reads an integer"
        ]

    def test_may_contain_itself(self):
        tree = {"properties": {"name": {"type": "string"}, "child": {"$ref": "#/components/x/t"}}}

        assert fits({"$ref": "#/components/x/t"}, {"type": "object"}, x={"t": tree}) == []

    def test_requires_what_each_of_its_parts_requires(self):
        parts = [
            {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ]
        wanted = {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "required": ["a", "b"],
        }

        assert fits({"allOf": parts}, wanted) == []

    def test_may_list_its_items(self):
        """Draft-07 has a list in `items`, 2020-12 has `prefixItems`."""
        items = [{"type": "integer"}, {"type": "string"}]
        payload = {"type": "array", "items": items, "minItems": 2, "maxItems": 2}
        wanted = {
            "type": "array",
            "prefixItems": [{"type": "integer"}] * 2,
            "minItems": 2,
            "maxItems": 2,
        }

        assert fits(payload, wanted) == [
            "[1]: the event carries a string, the handler reads an integer"
        ]

    @pytest.mark.parametrize(
        ("pointer", "reason"),
        [
            ("#/components/schemas/None", "which it does not contain"),
            ("./common.json#/Id", "Bundle the document into one file first"),
        ],
    )
    def test_may_refer_only_to_its_own_document(self, pointer: str, reason: str):
        with pytest.raises(BadReference, match=reason):
            contract_of(of_billing(payload={"$ref": pointer}))


class TestAFile:
    def test_is_read_as_json_or_yaml(self, tmp_path: Path):
        yaml = pytest.importorskip("yaml")
        for name, text in (
            ("billing.json", json.dumps(of_billing())),
            ("billing.yaml", yaml.safe_dump(of_billing())),
        ):
            (tmp_path / name).write_text(text)

            assert read(tmp_path / name) == contract_of(of_billing())

    def test_of_yaml_needs_pyyaml(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "yaml", None)
        (tmp_path / "billing.yaml").write_text("asyncapi: 3.0.0")

        with pytest.raises(Unreadable, match="is YAML, which needs PyYAML"):
            read(tmp_path / "billing.yaml")

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("a.json", "{", "is no valid AsyncAPI document"),
            ("a.json", "[]", "is no AsyncAPI document of version 2 or 3"),
            ("a.json", '{"openapi": "3.1.0"}', "is no AsyncAPI document of version 2 or 3"),
            ("a.json", '{"asyncapi": "3.0.0"}', "is no valid AsyncAPI document"),
            ("a.yaml", "a: [", "is no valid YAML"),
        ],
    )
    def test_is_refused_in_one_sentence(self, tmp_path: Path, name: str, text: str, reason: str):
        (tmp_path / name).write_text(text)

        with pytest.raises(Unreadable, match=reason) as caught:
            read(tmp_path / name)

        assert str(tmp_path / name) in str(caught.value)

    def test_may_be_missing(self, tmp_path: Path):
        with pytest.raises(Unreadable, match="No such file"):
            read(tmp_path / "none.json")

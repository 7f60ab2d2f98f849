"""Servers and bindings of each external system, without credentials."""

from __future__ import annotations

from typing import Any

import pytest

from outbox.contracts.asyncapi.systems import Address, System, system_of

#: It needs no PostgreSQL.
pytestmark = pytest.mark.once


def of(
    module: str,
    name: str,
    options: dict[str, Any],
    topic: str = "orders",
    *,
    room: str = "sinks",
    group: str = "",
) -> System:
    """Return the system of a project's own subclass of a sink or source."""
    attributes = {"__module__": f"outbox.{room}.{module}", "service": name[:3].lower()}
    base = type(name, (), attributes)
    own = type("OwnSink", (base,), {"__module__": "shipping.sinks"})
    return system_of(own, options, topic, group=group)


class TestASystem:
    @pytest.mark.parametrize(
        ("module", "options", "protocol", "servers"),
        [
            (
                "kafka",
                {"bootstrap.servers": "a:9092, b:9092", "sasl.password": "hunter2"},
                "kafka",
                [Address(host="a:9092"), Address(host="b:9092")],
            ),
            (
                "kafka",
                {"bootstrap.servers": "a:9093", "security.protocol": "sasl_ssl"},
                "kafka-secure",
                [Address(host="a:9093")],
            ),
            (
                "amqp",
                {"url": "amqps://user:hunter2@a:5671/shop;amqps://user:hunter2@b:5671/shop"},
                "amqps",
                [
                    Address(host="a:5671", pathname="/shop"),
                    Address(host="b:5671", pathname="/shop"),
                ],
            ),
            (
                "redis_streams",
                {"url": "rediss://:hunter2@cache:6380/2?ssl_cert_reqs=none"},
                "rediss",
                [Address(host="cache:6380", pathname="/2")],
            ),
            (
                "nats",
                {"servers": ["nats://user:hunter2@a:4222", "b:4222"]},
                "nats",
                [Address(host="a:4222"), Address(host="b:4222")],
            ),
        ],
        ids=["kafka", "kafka with TLS", "amqp", "redis", "nats"],
    )
    def test_has_its_servers_without_credentials(
        self, module: str, options: dict[str, Any], protocol: str, servers: list[Address]
    ):
        system = of(module, "AnySink", options)

        assert (system.protocol, system.address) == (protocol, "orders")
        assert list(system.servers) == servers
        assert "hunter2" not in repr(system)

    @pytest.mark.parametrize(
        ("name", "topic", "options", "protocol", "host"),
        [
            (
                "SnsSink",
                "arn:aws:sns:eu-west-1:123456789012:orders.fifo",
                {"aws_secret_access_key": "hunter2"},
                "sns",
                "sns.eu-west-1.amazonaws.com",
            ),
            (
                "SqsSink",
                "https://sqs.us-east-1.amazonaws.com/123456789012/orders.fifo",
                {},
                "sqs",
                "sqs.us-east-1.amazonaws.com",
            ),
            (
                "SqsSink",
                "orders.fifo",
                {"endpoint_url": "http://user:hunter2@127.0.0.1:5000"},
                "sqs",
                "127.0.0.1:5000",
            ),
        ],
        ids=["SNS", "SQS", "another endpoint"],
    )
    def test_of_amazon_has_the_host_of_its_region(
        self, name: str, topic: str, options: dict[str, Any], protocol: str, host: str
    ):
        system = of("aws.sinks", name, options, topic)

        assert (system.protocol, [one.host for one in system.servers]) == (protocol, [host])
        assert "orders.fifo" in repr(system.channel)
        assert "hunter2" not in repr(system)

    def test_of_http_is_the_url_without_user_and_query(self):
        system = of("http", "HttpSink", {}, "https://user:hunter2@example.com/in?token=hunter2")

        assert (system.protocol, system.address) == ("https", "/in")
        assert list(system.servers) == [Address(host="example.com")]
        assert "hunter2" not in repr(system)

    def test_is_not_recognized_by_the_name_of_a_projects_own_module(self):
        backend = type("OwnSink", (), {"__module__": "shipping.sinks.kafka"})

        assert list(system_of(backend, {"bootstrap.servers": "a:9092"}, "orders").servers) == []

    def test_of_an_unknown_backend_is_named_by_its_module(self):
        backend = type("OwnSink", (), {"__module__": "shipping.pigeon_post"})

        system = system_of(backend, {"password": "hunter2"}, "orders")

        assert (system.protocol, list(system.servers)) == ("pigeon-post", [])


class TestBindings:
    def test_name_the_exchange_of_a_routing_key(self):
        system = of("amqp", "AmqpSink", {"url": "amqp://h/", "exchange": "shop"})

        assert system.channel["amqp"]["exchange"]["name"] == "shop"
        assert system.operation["amqp"]["mandatory"] is True

    def test_say_that_kafkas_messages_have_a_key(self):
        assert of("kafka", "KafkaSink", {}).message["kafka"]["key"] == {"type": "string"}

    def test_of_a_source_name_its_consumer_group(self):
        system = of("kafka", "KafkaSource", {}, room="sources", group="shop")

        assert system.operation["kafka"]["groupId"]["enum"] == ["shop"]

    def test_of_a_source_name_its_queue(self):
        system = of("amqp", "AmqpSource", {"url": "amqp://h/"}, "invoices", room="sources")

        assert system.channel["amqp"]["queue"] == {"name": "invoices"}
        assert system.operation == {}

"""CloudEvents 1.0.2: write a stored event as one, and read one that another system has sent.

Specification: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md. Binary encoding
has the attributes as headers and the data as body, structured encoding has all in one JSON body.
Header values are text as it is (Kafka, RabbitMQ), or percent-encoded (HTTP, NATS):
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

from .common import CONTENT_TYPE, JSON, SPEC_VERSION, STRUCTURED, InvalidCloudEvent
from .reading import CloudEvent, parse
from .writing import attributes, binary, encoded, headers, json_bytes, structured, type_of

__all__ = [
    "CONTENT_TYPE",
    "JSON",
    "SPEC_VERSION",
    "STRUCTURED",
    "CloudEvent",
    "InvalidCloudEvent",
    "attributes",
    "binary",
    "encoded",
    "headers",
    "json_bytes",
    "parse",
    "structured",
    "type_of",
]

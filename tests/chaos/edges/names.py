"""Names that the run, the processes and the checker share. Importing it needs no settings."""

from __future__ import annotations

#: Keys of events and messages.
SHIPS = ("argo", "beagle", "calypso", "dove")
#: Sources, by the system that their messages come from.
SOURCES = ("from_kafka", "from_sqs", "from_nats", "from_amqp", "from_http")
#: CloudEvents `type` of messages that an external event declares.
BERTHED = "com.example.ship.berthed"
#: One that none declares.
UNDECLARED = "com.example.ship.painted"

SAILED, OVERLOADED = "harbour.ShipSailed", "harbour.ShipOverloaded"
#: Characters of an event that is too large for Kafka, SNS, SQS and NATS.
TOO_LARGE = 1_200_000
